"""Batch normalisation of a quantized network: statistics estimated anew, then frozen, then folded."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from releq_env.retraining.neighbours import Pair

# Not linear layers: of inputs with three dimensions the normalisation's channels are not their outputs.
_FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_CALIBRATION = 1000
_BATCH = 500


def calibration_batches(inputs: Tensor, mixed: bool = False) -> Iterator[Tensor]:
    """Yield the training inputs that statistics are estimated on, in batches.

    Args:
        inputs: All of them, shape `(N, ...)`.
        mixed: Whether they are drawn from all of them, always the same ones, and are not simply the first: for data
            that may be sorted, by class for example.
    """
    count = min(len(inputs), _CALIBRATION)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)) if mixed else torch.arange(count)
    *batches, last = order[:count].split(_BATCH)
    if batches and len(last) == 1:  # a channel may have one value then, and no variance
        last = torch.cat([batches.pop(), last])
    for batch in (*batches, last):
        yield inputs[batch.to(inputs.device)] if mixed else inputs[int(batch[0]) : int(batch[-1]) + 1]


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the statistics of all batch normalisation anew, with the weights as they are quantized now.

    Args:
        network: In eval mode; its normalisation is left so, but for the statistics. One that is not called, in the
            auxiliary head of a training for example, keeps those that it has.
        batches: Inputs; each batch counts the same.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for batch in batches:
        network(batch)
    for norm, momentum, statistics in zip(norms, momenta, before, strict=True):
        norm.momentum = momentum
        norm.eval()
        if norm.num_batches_tracked is not None and norm.num_batches_tracked == 0:
            for name, buffer in statistics.items():
                norm.get_buffer(name).copy_(buffer)


def fold(network: nn.Module, pairs: Iterable[Pair]) -> None:
    """Take frozen batch normalisation into the layer before it, in place, where neither has a bias.

    The scale comes after the quantizer, so that the codes stay what they are (w_q / sigma). One with
    trained parameters of its own is left alone.

    Args:
        network: Quantized, in eval mode.
        pairs: Its neighbours; those that are something else are left alone.
    """
    for names in pairs:
        layer, norm = map(network.get_submodule, names)
        if _foldable(layer, norm):
            scale, shift = _affine(norm)
            parametrize.register_parametrization(layer, "weight", _ChannelScale(scale))
            layer.bias = nn.Parameter(shift, requires_grad=False)
            network.set_submodule(names[1], nn.Identity())


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift that frozen normalisation comes to, one a channel."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    return scale, -norm.running_mean * scale


class _ChannelScale(nn.Module):
    """A fixed factor an output channel."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale.reshape(-1, *(1,) * (weight.ndim - 1))


def _foldable(layer: nn.Module, norm: nn.Module) -> bool:
    return (
        parametrize.type_before_parametrizations(layer) in _FOLDABLE
        and layer.bias is None
        and isinstance(norm, _BatchNorm)
        and not norm.affine
        and norm.track_running_stats
        and not norm.training
    )
