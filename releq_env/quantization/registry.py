"""The table of quantizers. Needs no torch: what computes is named by strings and imported on first use."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from releq_env.errors import ReLeQError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from releq_env.quantization.base import WeightQuantizer


@dataclass(frozen=True)
class Quantizer:
    """One entry of `QUANTIZERS`.

    Attributes:
        bitwidths: The bitwidths it supports, ascending.
        build: `(weight, bits) -> WeightQuantizer`, or where that is: `"module:name"`.
        scales: Whether it stores one scale factor a `"tensor"` or one an output `"channel"`.
        learning_rate: Of a short retraining with it.
        stacked: `(stack, bits) -> module` that does to a stack of K weights, shape `(K, n, ...)`, what
            `build` does to each with a bitwidth of its own; or where that is. It has the same `own_rate` and `slower`
            (see `WeightQuantizer`), if those are not the defaults. `None`: it cannot be stacked.
        version: Raised whenever it computes something else, so that accuracies from before are not taken for its own.
    """

    bitwidths: tuple[int, ...]
    build: str | Callable[..., Any]
    scales: Literal["tensor", "channel"]
    learning_rate: float = 1e-3
    stacked: str | Callable[..., Any] | None = None
    version: int = 1

    def make(self, weight: "Tensor", bits: int) -> "WeightQuantizer":
        """Return the quantizer of a weight, shape `(n, ...)`."""
        return _resolved(self.build)(weight, bits)

    def make_stacked(self, stack: "Tensor", bits: "Sequence[int]") -> "nn.Module":
        """Return the quantizer of a stack, shape `(K, n, ...)`, with K bitwidths.

        Raises:
            ReLeQError: If it has no stacked form.
        """
        if self.stacked is None:
            raise ReLeQError("this quantizer has no stacked form; choose another parallel= than 'stacked'")
        return _resolved(self.stacked)(stack, bits)


def _resolved(entry: str | Callable[..., Any]) -> Callable[..., Any]:
    return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry


QUANTIZERS: dict[str, Quantizer] = {
    "lsq": Quantizer(
        bitwidths=tuple(range(1, 9)),
        build="releq_env.quantization.lsq:LSQ",
        scales="channel",
        stacked="releq_env.quantization.lsq:StackedLSQ",
        version=2,
    ),
    "wrpn": Quantizer(
        bitwidths=tuple(range(2, 9)),
        build="releq_env.quantization.wrpn:WRPN",
        scales="tensor",
        stacked="releq_env.quantization.wrpn:StackedWRPN",
    ),
    "dorefa": Quantizer(
        bitwidths=tuple(range(2, 9)),
        build="releq_env.quantization.dorefa:DoReFa",
        scales="tensor",
        learning_rate=3e-4,
        stacked="releq_env.quantization.dorefa:StackedDoReFa",
    ),
}
"""By name. Others add their own: nothing else lists quantizers."""
