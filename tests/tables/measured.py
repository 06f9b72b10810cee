"""A source that measures with seeds, without training."""

import itertools
from collections.abc import Generator, Mapping

import numpy as np

from releq_env.evaluation import Evaluator
from releq_env.problem import Problem
from releq_env.tables.sensitivities import Cost, Proxy, Sensitivities
from releq_env.workers.waiting import Assignment, Measured, Waiting
from tests.fakes import DIGITS_LAYERS, FakeSource, smooth_accuracy

CHOICES = (1, 2, 4)
ASSIGNMENTS = list(itertools.product(CHOICES, repeat=4))


class SeededSource(FakeSource):
    """Accuracies with a little noise of the seed.

    Args:
        seed: The retraining seed.
        fails_after: How many it measures before the power goes.
        depends: What its accuracies depend on besides.
    """

    def __init__(self, seed: int = 0, fails_after: int = 1000, depends: Mapping[str, object] | None = None) -> None:
        self.depends = {"network": "fake", "precision": "fp32", "torch": "1"} | dict(depends or {})
        super().__init__(fingerprint=self.depends | {"retrain_seed": seed})
        self.retrain_seed = seed
        self.fails_after = fails_after

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        for assignment, measured in super().measure(waiting):
            if len(self.calls) > self.fails_after:
                raise KeyboardInterrupt
            yield assignment, Measured(accuracy(assignment, self.retrain_seed), measured.seconds)

    def reseeded(self, retrain_seed: int) -> "SeededSource":
        other = SeededSource(retrain_seed, self.fails_after, self.depends)
        other.batches = self.batches  # as workers are shared
        return other


def accuracy(assignment: Assignment, seed: int) -> float:
    noise = np.random.default_rng([seed, *assignment]).integers(-10, 11) / 5000
    return float(np.clip(smooth_accuracy(assignment) + noise, 0.0, 1.0))


def with_sensitivities(problem: Problem, proxies: tuple[str, ...] = ("loss", "fisher", "hessian")) -> dict[str, object]:
    """Return the metadata of proxies that know the accuracy's shape: the last layer matters most."""
    values = tuple(tuple((index + 1) * 4.0**-bits for bits in each) for index, each in enumerate(problem.choices))
    cost = Cost(1.25, images=64, forward=640, backward=128)
    return Sensitivities(problem.choices, {name: Proxy(values, cost) for name in proxies}).as_dict()


def seeded_problem(source: SeededSource | None = None, bitwidths: tuple[int, ...] = CHOICES) -> Problem:
    every = (tuple(range(1, 9)),) * 4
    problem = Problem("digits", DIGITS_LAYERS, every, every, Evaluator(source or SeededSource()), quantizer="lsq")
    return problem.replace(bitwidths=bitwidths)
