"""Discovery of a network's quantizable layers."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.quantization.registry import QUANTIZERS

QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def quantizable_layers(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerInfo, ...]:
    """Describe the quantizable layers of a network, in the order in which a forward pass calls them.

    The network is run once, in evaluation mode and without gradients, on one input of zeros; it is
    left as it was. A layer that is called several times is listed once, with the sum of its
    multiply-accumulates.

    Args:
        network: Any module.
        input_shape: Shape of one input without the batch dimension, e.g. `(3, 32, 32)`.

    Returns:
        One `LayerInfo` a layer; `scales` is that of a quantizer with one scale a tensor, see `with_scales`.

    Raises:
        ReLeQError: If the network calls no convolution and no fully connected layer, or one whose
            weight cannot be quantized.
    """
    names: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, QUANTIZABLE + _TRANSPOSED)
    }
    macs: dict[nn.Module, int] = {}

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        _check(names[module], module)
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        # Every output element is one dot product over a weight's non-output dimensions.
        macs[module] = macs.get(module, 0) + output.numel() * weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in names]
    training = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with pinned_arithmetic(), torch.no_grad():
        try:
            network.eval()
            network(torch.zeros(1, *input_shape, device=device))
        finally:
            for hook in hooks:
                hook.remove()
            for module, was_training in training.items():
                module.training = was_training
        if not macs:
            raise ReLeQError(
                f"{type(network).__name__} has no quantizable layer; it needs at least one of "
                + ", ".join(kind.__name__ for kind in QUANTIZABLE)
            )
        return tuple(_describe(names[module], module, count) for module, count in macs.items())


def with_scales(layers: Iterable[LayerInfo], quantizer: str) -> tuple[LayerInfo, ...]:
    """Return layers with the number of scale factors that a quantizer, a name in `QUANTIZERS`, stores for each."""
    by_channel = QUANTIZERS[quantizer].scales == "channel"
    return tuple(replace(layer, scales=layer.n if by_channel else 1) for layer in layers)


def _check(name: str, module: nn.Module) -> None:
    kind = parametrize.type_before_parametrizations(module).__name__
    if isinstance(module, _TRANSPOSED):
        # The first dimension of its weight is not the output channel, by which weights are quantized.
        accepted = ", ".join(kind.__name__ for kind in QUANTIZABLE)
        raise ReLeQError(f"layer {name!r} is a {kind}, which cannot be quantized; use only {accepted}")
    if "weight" not in module._parameters and not parametrize.is_parametrized(module, "weight"):
        raise ReLeQError(
            f"the weight of layer {name!r} ({kind}) is no parameter but computed by a hook, as "
            "torch.nn.utils.weight_norm does; use torch.nn.utils.parametrizations instead, or remove the hook"
        )


def _describe(name: str, module: nn.Module, macs: int) -> LayerInfo:
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return LayerInfo(
        name=name,
        n=weight.shape[0],
        c=weight.shape[1],
        k=weight.shape[2] if weight.ndim > 2 else 0,
        weights=weight.numel(),
        macs=macs,
        std=float(weight.detach().float().std(correction=0)),
    )
