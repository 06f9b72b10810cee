"""Finding modules that may be replaced together, in any network."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Pair = tuple[str, str]
"""Names of two modules, of which the second takes what the first returns."""


@torch.no_grad()
def neighbours(network: nn.Module, inputs: Tensor) -> list[Pair]:
    """Return the modules whose output goes to one other module and nowhere else.

    Found by running a copy, wherever the modules stand. Both are called once and have one name; no other
    function of torch takes the output of the first or a parameter of either; what goes between is not
    returned.

    Args:
        network: In eval mode. If it has hooks, which may see what is between any two modules, there are no pairs.
        inputs: A few inputs.
    """
    network = copy.deepcopy(network)
    names = {module: name for name, module in network.named_modules()}
    if any(_has_hooks(module) for module in names):
        return []
    places = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    with _Uses() as uses:
        for module in names:
            module.register_forward_pre_hook(uses.begin)
            module.register_forward_hook(uses.end)
        returned = uses.key(network(inputs))
    called = Counter(module for module, _ in uses.given)
    single = {
        module
        for module, count in called.items()
        if count == places[module] == 1 and all(uses.count[uses.key(p)] == 1 for p in module.parameters())
    }
    return [
        (names[first], names[second])
        for second, key in uses.given
        if (first := uses.producers.get(key)) in single and second in single
        if uses.count[key] == 1 and key != returned
    ]


def unchanged(change: Callable[[nn.Module], None], network: nn.Module, inputs: Tensor, tolerance: float) -> bool:
    """Whether a changed copy of a network computes what the network does.

    A second look: a compiled extension or an `autograd.Function` is no function of torch, and sees a tensor, too.

    Args:
        change: Changes a network in place.
        network: In eval mode.
        inputs: A few inputs.
        tolerance: How large the difference may be, relative to the outputs.
    """
    changed = copy.deepcopy(network)
    change(changed)
    with torch.no_grad():
        expected, outputs = network(inputs), changed(inputs)
    return bool((outputs - expected).norm() <= tolerance * expected.norm())


_ASKING: frozenset[Any] = frozenset(
    [Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("ndim", "shape", "dtype", "_version"))]
)
"""Functions that tell nothing of a tensor's numbers."""

_Key = tuple[int, int]
"""What tells a tensor from all others, and from itself before it was changed in place."""


class _Uses(TorchFunctionMode):
    """Follows tensors through a network.

    Attributes:
        count: How often each is given to a function of torch that sees its numbers.
        given: The modules as they are called, and what they are given.
        producers: The leaf that has returned a tensor, the last one if several have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[_Key] = Counter()
        self.given: list[tuple[nn.Module, _Key]] = []
        self.producers: dict[_Key, nn.Module] = {}
        self._kept: list[Tensor] = []  # no other object gets the id of one that lives

    def key(self, value: object) -> _Key:
        """Return what a tensor is known by from now on."""
        if not isinstance(value, Tensor):
            return 0, 0
        self._kept.append(value)
        return id(value), value._version

    def begin(self, module: nn.Module, args: tuple[object, ...]) -> None:
        """Note a call. A forward pre-hook."""
        self.given.append((module, self.key(args[0] if len(args) == 1 else None)))

    def end(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        """Note what a call returns. A forward hook."""
        if not any(module.children()):
            self.producers[self.key(output)] = module

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _ASKING:
            self.count.update(map(self.key, _tensors([*args, *kwargs.values()])))
        return func(*args, **kwargs)


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _has_hooks(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)
