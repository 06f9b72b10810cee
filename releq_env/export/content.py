"""What a packed file holds, compared with a network and put into it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.errors import short
from releq_env.export.about import About
from releq_env.export.layer import PackedLayer
from releq_env.export.state import check_order, contiguous, distinct, put_in_order, rest
from releq_env.quantization.layers import QUANTIZABLE


def names_of(layer: str) -> tuple[str, str]:
    """Return under which names a file has a layer's packed numbers and its scale."""
    return f"{layer}.weight:packed", f"{layer}.weight:scale"


class Content(NamedTuple):
    """What is in a file.

    Attributes:
        about: What the file says of the network.
        layers: The quantized layers by name.
        packed: Their packed numbers and their scales.
        others: The other tensors of the network's state, each under all its names.
        orders: Of the others' dimensions in memory, see `releq_env.export.state.order`.
    """

    about: About
    layers: dict[str, PackedLayer]
    packed: dict[str, tuple[Tensor, Tensor]]
    others: dict[str, Tensor]
    orders: dict[str, Sequence[int]]

    @classmethod
    def read(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Content":
        """Return the content of a file.

        Raises:
            KeyError, TypeError, ValueError: If it is no content.
        """
        described, same, orders = (description[name] for name in ("layers", "same", "orders"))
        if not all(isinstance(part, dict) for part in (described, same, orders)):
            raise TypeError("its description is not that of a network")
        layers = {name: PackedLayer.read(layer) for name, layer in described.items()}
        others = dict(tensors)
        for name, first in same.items():
            others.setdefault(name, others[first])
        packed = {
            name: (others.pop(first), others.pop(second)) for name in layers for first, second in [names_of(name)]
        }
        for name, axes in orders.items():
            check_order(axes, others[name].ndim)
        orders = {name: contiguous(tensor) for name, tensor in others.items()} | orders
        return cls(About.read(description["about"]), layers, packed, others, orders)

    def difference(self, network: nn.Module) -> str | None:
        """Return in what a network differs from the one that was saved, or `None`.

        It is to be known before anything is made in the sizes that a file declares.
        """
        return next(self._differences(network), None)

    def put_into(self, network: nn.Module) -> None:
        """Give a network what the file holds. There must be no `difference`.

        Raises:
            ValueError: If the packed weights are not what the file says of them; the network is then as it was.
        """
        made: dict[tuple[int, PackedLayer], nn.Parameter] = {}
        weights: dict[str, nn.Parameter] = {}
        for name, layer in self.layers.items():
            one = id(self.packed[name][0]), layer  # what was one weight is one again
            if one not in made:
                trained = _is_trained(network.get_submodule(name))
                made[one] = nn.Parameter(layer.weights(*self.packed[name]), requires_grad=trained)
            weights[name] = made[one]
        for name, weight in weights.items():
            module = network.get_submodule(name)
            weight.data = weight.data.to(_weight(module).device)
            if parametrize.is_parametrized(module, "weight"):  # by weight norm, of which the result was quantized
                _with_class_of_its_own(module)
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            # A new parameter: the old one may be that of another layer, too, with other or no quantization.
            module.weight = weight
        network.load_state_dict(self.others, strict=False)  # the names have been compared
        put_in_order(network, self.orders)

    def _differences(self, network: nn.Module) -> Iterator[str]:
        modules = dict(network.named_modules())
        for name, packed in self.layers.items():
            layer = modules.get(name)
            if not isinstance(layer, QUANTIZABLE):
                yield f"it has quantized {short(name)}, which here is no layer that can be quantized"
                return
            theirs, ours = _kind(self.packed[name][1].dtype, packed.shape), _kind_of(_weight(layer))
            if theirs != ours:
                yield f"the weights of its {short(name)} are {theirs}, here they are {ours}"
        expected = rest(network, [modules[name] for name in self.layers])
        yield from (f"it has no {short(name)}" for name in expected if name not in self.others)
        yield from (f"it has {short(name)}, which is not here" for name in self.others if name not in expected)
        for name, tensor in expected.items():
            theirs, ours = _kind_of(self.others[name]), _kind_of(tensor)
            if theirs != ours:
                yield f"its {short(name)} is {theirs}, here it is {ours}"
        for name, first in distinct(expected)[1].items():
            if not torch.equal(self.others[name], self.others[first]):
                yield f"its {short(name)} and {short(first)} differ, here they are one tensor"


def _is_trained(layer: nn.Module) -> bool:
    """Whether what a layer's weight is, or is computed of, is trained."""
    weights = ("weight", "parametrizations.weight.")
    return any(each.requires_grad for name, each in layer.named_parameters() if name.startswith(weights))


def _with_class_of_its_own(module: nn.Module) -> None:
    """Give a parametrized module another class: torch takes `weight` from the class, which copies share."""
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _kind_of(tensor: Tensor) -> str:
    return _kind(tensor.dtype, tuple(tensor.shape))


def _kind(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {shape}"
