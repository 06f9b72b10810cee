"""Who learns how fast."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from releq_env.quantization import WeightQuantizer


def rate_factor(bits: int) -> float:
    """Return what the learning rate of a layer's weights and biases is multiplied by: `min(1, 2 / bits)`.

    Codes of many bits are close to the pre-trained weights, which a large rate would only move away.
    """
    return min(1.0, 2.0 / bits)


def parameter_groups(
    network: nn.Module, bitwidths: Mapping[str, int], rate: float, own_rate: float | None = None
) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups: the fewest that have one learning rate each.

    Args:
        network: Quantized.
        bitwidths: By the names of the quantized layers.
        rate: Learning rate; a layer's weights and biases are trained at `rate * rate_factor(bits)`.
        own_rate: Of what quantizers train themselves. `None`: what each says, `rate` if it says nothing.
    """
    own: dict[int, float] = {}
    for module in network.modules():
        if isinstance(module, WeightQuantizer):
            special = module.own_rate if own_rate is None else own_rate
            own |= dict.fromkeys(map(id, module.parameters()), rate if special is None else special)
    layers: dict[int, float] = {}
    for name, bits in bitwidths.items():
        for parameter in network.get_submodule(name).parameters():
            layers.setdefault(id(parameter), rate * rate_factor(bits))  # shared weights: by the first of their layers
    groups: dict[float, list[Tensor]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            known = own.get(id(parameter))
            groups.setdefault(layers.get(id(parameter), rate) if known is None else known, []).append(parameter)
    return [{"params": parameters, "lr": each} for each, parameters in groups.items()]
