"""What accuracy is expected of what a search has measured once, with noise."""

from collections.abc import Iterable

import numpy as np

from benchmarks.reproduce.searching import Found
from releq_env.searchers.gaussian_process import GaussianProcess
from releq_env.searchers.improvement import LossScale


def smoothed(found: Iterable[Found], least: float) -> list[Found]:
    """Return the same assignments, each once, with the accuracy that is expected in place of the measured one.

    Of the many assignments of a total of bits the most accurate measured one is most of all lucky. A Gaussian process
    over the logarithms of bitwidths, the model of the searcher `gp`, sets each against its neighbours.

    Args:
        found: What a search has paid for.
        least: Its constraint.
    """
    measured = {each.bitwidths: each.relative_accuracy for each in found}
    if len(measured) < 2:
        return [Found(*each) for each in measured.items()]
    scale = LossScale(least)
    bits = np.log2(np.array(list(measured), dtype=float))
    bits *= 2.0 / (np.ptp(bits) or 1.0)  # the width that the model's prior is made for
    losses = scale.modelled(np.array(list(measured.values())))
    model = GaussianProcess(bits.shape[1])
    model.learn(bits, losses)
    model.condition(bits, losses)
    expected = scale.relative_accuracies(model.predict(bits)[0])
    return [Found(bitwidths, float(value)) for bitwidths, value in zip(measured, expected, strict=True)]
