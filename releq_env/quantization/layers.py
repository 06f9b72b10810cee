"""Discovery of a network's quantizable layers."""

import torch
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo

QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def quantizable_layers(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerInfo, ...]:
    """Describe the quantizable layers of a network, in the order in which a forward pass calls them.

    The network is run once, in evaluation mode and without gradients, on one input of zeros; it is
    left as it was. A layer that is called several times is listed once, with the sum of its
    multiply-accumulates.

    Args:
        network: Any module.
        input_shape: Shape of one input without the batch dimension, e.g. `(3, 32, 32)`.

    Returns:
        One `LayerInfo` a layer.

    Raises:
        ReLeQError: If the network calls no convolution and no fully connected layer.
    """
    names: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, QUANTIZABLE)
    }
    macs: dict[nn.Module, int] = {}

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        # Every output element is one dot product over a weight's non-output dimensions.
        macs[module] = macs.get(module, 0) + output.numel() * weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in names]
    training = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        network.eval()
        with torch.no_grad():
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
