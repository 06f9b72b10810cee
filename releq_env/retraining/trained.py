"""The network of an assignment after its short retraining, to keep."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.retraining.distillation import distilled_loss
from releq_env.retraining.rates import parameter_groups
from releq_env.retraining.short import ShortRetraining
from releq_env.seeds import each_seed


def retrained_network(retraining: ShortRetraining, bitwidths: Sequence[int]) -> nn.Module:
    """Return what `ShortRetraining.measure` retrains, as `quantize` makes it: with nothing fused or folded.

    Sums are therefore taken in another order, and its accuracy may differ by an image or two from the one
    that was measured.

    Args:
        retraining: Network, data and recipe. Of several seeds the first one counts.
        bitwidths: One bitwidth a layer.

    Returns:
        The network on the processor, in evaluation mode.

    Raises:
        ReLeQError: If the assignment is not accepted.
    """
    plain = copy.copy(retraining)
    vars(plain)["_pairs"] = ([], [])  # of this copy: none are replaced
    names = [layer.name for layer in retraining.pretrained.layers]
    loss_of = distilled_loss(retraining.task)
    with pinned_arithmetic():
        data, network = plain.load(), plain.prepared(bitwidths)
        if plain.retrain_images:
            plain.descend(
                parameter_groups(network, dict(zip(names, bitwidths, strict=True)), plain.learning_rate),
                lambda inputs, targets, teacher: loss_of(plain.outputs(network, inputs), targets, teacher),
                data,
                each_seed(plain.retrain_seed)[0],
            )
        network = network.cpu().to(memory_format=torch.contiguous_format)
    return network.eval()
