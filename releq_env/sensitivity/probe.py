"""What proxies are measured with: a network in float32, a few training images, one layer at a time."""

import copy
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.choices import Choices
from releq_env.errors import ReLeQError, check_whole
from releq_env.quantization import QUANTIZERS
from releq_env.retraining.data import channels_last
from releq_env.retraining.short import ShortRetraining
from releq_env.tables.sensitivities import Cost, Proxy

_BATCH = 256
_SEED = 0


class Probe:
    """A short retraining's network and quantizer, with some of its training images, in float32.

    In float32 whatever the precision of retraining: what 8 bits lose is below what bfloat16 can tell.

    Args:
        retraining: Says which network, task, quantizer, device and data.
        choices: The bitwidths of each layer.
        images: How many training images are looked at; drawn at random, always the same ones.

    Attributes:
        images: How many there are.
        choices: As given.
        forward: Images that were passed forward so far.
        backward: Images whose loss was differentiated so far.

    Raises:
        ReLeQError: If the data are not to be had, or the layers are others than the choices are for.
    """

    def __init__(self, retraining: ShortRetraining, choices: Choices, images: int) -> None:
        self.layers = retraining.pretrained.layers
        if len(self.layers) != len(choices):
            raise ReLeQError(
                f"sensitivities are measured a layer at a time, and {retraining.task.name} has {len(self.layers)} "
                f"layers for {len(choices)} bitwidths to choose; give sensitivities="
            )
        data = retraining.load()
        order = torch.randperm(len(data.targets), generator=torch.Generator().manual_seed(_SEED))
        drawn = order[: check_whole("images", images, 1)].to(data.targets.device)
        self.images = len(drawn)
        self.choices = choices
        inputs = data.inputs[drawn]
        self._inputs = inputs.float() if inputs.is_floating_point() else inputs  # the ids of tokens stay what they are
        self._targets = data.targets[drawn]
        self._data = dataclasses.replace(data, inputs=self._inputs, targets=self._targets)
        self._retraining = self._copy(retraining)
        self._retraining.dtype = torch.float32
        self.start()

    def _copy(self, retraining: ShortRetraining) -> ShortRetraining:
        other = copy.copy(retraining)
        other.adopt(self._data)  # a copy would load its own
        return other

    def start(self) -> None:
        """Begin to count anew."""
        self.forward = self.backward = 0

    def proxy(self, rows: list[list[float]], seconds: float) -> Proxy:
        """Return a proxy with what was counted since `start`."""
        cost = Cost(round(seconds, 3), self.images, self.forward, self.backward)
        return Proxy(tuple(map(tuple, rows)), cost)

    def batches(self, size: int = _BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets, batch by batch."""
        for inputs, targets in zip(self._inputs.split(size), self._targets.split(size), strict=True):
            yield channels_last(inputs), targets

    def loss(self, network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss of a batch: a scalar, the mean over the batch."""
        self.forward += len(inputs)
        return self._retraining.task.loss(self._retraining.outputs(network, inputs), targets)

    def alone(self, layer: int, bits: int) -> nn.Module:
        """Return the network as a short retraining starts it, with one layer quantized and the others not."""
        one = self._copy(self._retraining)
        one.pretrained = dataclasses.replace(self._retraining.pretrained, layers=(self.layers[layer],))
        return one.prepared((bits,))

    def full_precision(self) -> nn.Module:
        """Return the network likewise, nothing quantized."""
        return self._retraining.prepared(None)

    def differentiable(self) -> tuple[nn.Module, list[Tensor]]:
        """Return the plain network in evaluation mode, and for every layer what is added to its weight: zeros.

        The loss differentiated by these is differentiated by the weight, whatever that is computed from.
        """
        network = copy.deepcopy(self._retraining.pretrained.network).to(self._retraining.device).eval()
        network.requires_grad_(False)
        offsets: list[Tensor] = []
        for layer in self.layers:
            module = network.get_submodule(layer.name)
            offset = _Offset(_weight(module))
            parametrize.register_parametrization(module, "weight", offset)
            offsets.append(offset.added)
        return network, offsets

    def errors(self, layer: int) -> Iterator[Tensor]:
        """Yield what quantizing adds to a layer's weight, one tensor a choice."""
        module = self._retraining.pretrained.network.get_submodule(self.layers[layer].name)
        weight = _weight(module).to(self._retraining.device).float()
        for bits in self.choices[layer]:
            quantizer = QUANTIZERS[self._retraining.quantizer].make(weight, bits)
            with torch.no_grad():
                yield quantizer(weight) - weight


class _Offset(nn.Module):
    """Adds a parameter of zeros to a weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.added


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()
