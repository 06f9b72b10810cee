"""Who learns how fast."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from releq_env.quantization import WeightQuantizer


def rate_factor(bits: int, slower: bool) -> float:
    """Return what the learning rate of a layer's weights and biases is multiplied by.

    Args:
        bits: Of the layer.
        slower: `WeightQuantizer.slower`: `min(1, 2 / bits)` if it is set, else 1.
    """
    return min(1.0, 2.0 / bits) if slower else 1.0


def parameter_groups(
    network: nn.Module, bitwidths: Mapping[str, int], rate: float, own_rate: float | None = None
) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups: the fewest that have one learning rate each.

    Args:
        network: Quantized.
        bitwidths: By the names of the quantized layers.
        rate: Learning rate; a layer's weights and biases are trained at that times `rate_factor`.
        own_rate: Of what quantizers train themselves. `None`: what each says, `rate` if it says nothing.
    """
    own: dict[int, float] = {}
    for module in network.modules():
        if isinstance(module, WeightQuantizer):
            special = module.own_rate if own_rate is None else own_rate
            own |= dict.fromkeys(map(id, module.parameters()), rate if special is None else special)
    layers: dict[int, float] = {}
    for name, bits in bitwidths.items():
        layer = network.get_submodule(name)
        slower = any(module.slower for module in layer.modules() if isinstance(module, WeightQuantizer))
        for parameter in layer.parameters():  # shared weights: by the first of their layers
            layers.setdefault(id(parameter), rate * rate_factor(bits, slower))
    groups: dict[float, list[Tensor]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            known = own.get(id(parameter))
            groups.setdefault(layers.get(id(parameter), rate) if known is None else known, []).append(parameter)
    return [{"params": parameters, "lr": each} for each, parameters in groups.items()]
