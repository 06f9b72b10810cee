"""Several outputs and several targets, put together into one tensor each: the engine knows only one.

A network that returns a tuple gets a hook that joins it, and loss and metric take it apart again.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from releq_env.errors import ReLeQError, short


@dataclass(frozen=True)
class Layout:
    """How a nest of tensors is put together.

    Attributes:
        kind: `"tensor"`, `"tuple"` or `"dict"`.
        made: The type of a named tuple or of a dictionary of another class, if it can be made again, else `None`.
        names: Keys of a dictionary, else numbers.
        parts: Of each entry.
        shape: Of a tensor, without the batch dimension.
        dtype: Of a tensor.
    """

    kind: str
    names: tuple[Any, ...] = ()
    parts: "tuple[Layout, ...]" = ()
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    made: type | None = field(default=None, compare=False)

    @property
    def several(self) -> bool:
        """Whether it is more than one tensor."""
        return self.kind != "tensor"

    @property
    def leaves(self) -> "list[Layout]":
        """The tensors, first to last."""
        return [leaf for part in self.parts for leaf in part.leaves] if self.several else [self]

    @property
    def described(self) -> str:
        """What it is, in words."""
        inner = ", ".join(f"{name}: {part.described}" for name, part in zip(self.names, self.parts, strict=True))
        return f"({inner})" if self.several else f"{self.dtype} (N, {', '.join(map(str, self.shape))})"

    def rebuilt(self, tensors: Sequence[Tensor]) -> Any:
        """Return the nest of these tensors."""
        if not self.several:
            return tensors[0]
        made, rest = [], list(tensors)
        for part in self.parts:
            count = len(part.leaves)
            made.append(part.rebuilt(rest[:count]))
            rest = rest[count:]
        if self.kind == "tuple":
            return tuple(made) if self.made is None else self.made._make(made)  # type: ignore[attr-defined]  # of a named tuple
        named = dict(zip(self.names, made, strict=True))
        return named if self.made is None else self.made(**named)

    def split(self, tensor: Tensor, types: bool = False) -> Any:
        """Return the nest that `joined` has put together.

        Args:
            tensor: Shape `(N, numbers an example)`.
            types: Whether to give each its type back, not only whole numbers and truth values.
        """
        if not self.several:
            return tensor
        sizes = [int(torch.Size(leaf.shape).numel()) for leaf in self.leaves]
        pieces = tensor.split(sizes, dim=1)
        shaped = [piece.reshape(-1, *leaf.shape) for piece, leaf in zip(pieces, self.leaves, strict=True)]
        typed = [
            each.to(leaf.dtype) if types or not leaf.dtype.is_floating_point else each
            for each, leaf in zip(shaped, self.leaves, strict=True)
        ]
        return self.rebuilt(typed)


def parts_of(nest: Any, what: str) -> tuple[list[Tensor], Layout]:
    """Return the tensors of a nest, and how it is put together.

    Raises:
        ReLeQError: If there is something else in it, or a tensor without a batch dimension.
    """
    if isinstance(nest, Tensor):
        if not nest.ndim:
            raise ReLeQError(f"{what} has a tensor without a batch dimension; give one row an example")
        return [nest], Layout("tensor", shape=tuple(nest.shape[1:]), dtype=nest.dtype)
    if isinstance(nest, dict):
        names, entries, kind = tuple(nest), list(nest.values()), "dict"
    elif isinstance(nest, tuple | list) and nest:
        names, entries, kind = tuple(range(len(nest))), list(nest), "tuple"
    else:
        raise ReLeQError(f"{what} has {short(type(nest).__name__)} in it; it may be a tensor, or several in a tuple")
    found = [parts_of(entry, what) for entry in entries]
    parts = tuple(each for _, each in found)
    return [tensor for tensors, _ in found for tensor in tensors], Layout(kind, names, parts, made=_type_of(nest))


def _type_of(nest: Any) -> type | None:
    """Return what a nest is to be made of again, if that is no plain tuple or dictionary, and can be done."""
    kind: Any = type(nest)
    if kind in (tuple, list, dict) or (isinstance(nest, tuple | list) and not hasattr(kind, "_make")):
        return None
    try:
        pickle.dumps(kind)  # other processes make it, too
        kind(**nest) if isinstance(nest, dict) else kind._make(nest)
    except Exception:  # whatever its constructor raises
        return None
    return kind


def joined(nest: Any, dtype: torch.dtype) -> Tensor:
    """Return a nest of tensors as one: itself if it is one, else shape `(N, numbers an example)` in a type."""
    tensors, layout = parts_of(nest, "the nest")
    return torch.cat([tensor.flatten(1).to(dtype) for tensor in map(_column, tensors)], 1) if layout.several else nest


def _column(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(1) if tensor.ndim == 1 else tensor


def join_outputs(network: nn.Module) -> None:
    """Let a network return one tensor, in place."""
    network.register_forward_hook(_join)


def joins_outputs(network: nn.Module) -> bool:
    """Whether `join_outputs` has joined what a network returns."""
    return _join in network._forward_hooks.values()


def separate_outputs(network: nn.Module) -> nn.Module:
    """Let a network return several again, in place, if `join_outputs` has joined them."""
    for key, hook in list(network._forward_hooks.items()):
        if hook is _join:
            del network._forward_hooks[key]
    return network


def _join(network: nn.Module, arguments: Any, outputs: Any) -> Tensor:
    tensors, _ = parts_of(outputs, "what the network returns")
    kinds = {tensor.dtype for tensor in tensors}
    one = kinds.pop() if len(kinds) == 1 else torch.float32  # which holds whole numbers that a shorter one rounds
    return joined(outputs, one if one.is_floating_point else torch.float32)


@dataclass(frozen=True)
class Separated:
    """A loss or metric of what was joined.

    Attributes:
        function: `(outputs, targets) -> number` of what the network returns and what the data have.
        outputs: How outputs are put together.
        targets: How targets are.
    """

    function: Callable[[Any, Any], Any]
    outputs: Layout
    targets: Layout

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        return self.function(self.outputs.split(outputs), self.targets.split(targets, types=True))
