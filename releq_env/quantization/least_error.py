"""Steps with which rounding changes weights least: where those of `lsq` start.

The published start, `2 mean|w| / sqrt(n)` (Esser et al. 2020, section 2.1), is larger than the step of least squared
error for the weights of a trained layer: on a bell curve at 4 bits with twice the error, at 8 bits with more than 20
times. Training has to shrink it, and a short one has not the time (`python -m benchmarks.starts`). That a start of
least error is better is known of activations (Bhalgat et al. 2020, LSQ+, arXiv 2004.09576).
"""

from typing import Any

import torch
from torch import Tensor

from releq_env.quantization.base import SMALLEST_STEP

_SHARES = tuple(0.85**k for k in range(17))  # of the largest weight, 1 to 0.07: where the range may end
_REFINED = 2  # times codes and steps are fitted to each other


def least_error_steps(rows: Tensor, n: Tensor | int) -> Tensor:
    """Return the step of least squared error a channel, shape `(..., n_channels)`.

    Of a row of ranges the best, each with the step that fits its codes best; then by turns the codes of a step and the
    step of the codes (Lloyd 1982), by which the error never grows.

    Args:
        rows: Weights, shape `(..., n_channels, weights per channel)`.
        n: The largest code: one for all, or a candidate's each, floats of shape `(K, 1)`.
    """
    widest = rows.abs().amax(dim=-1) / n
    best, gained = widest, torch.zeros_like(widest)
    for share in _SHARES:
        fitted, gain = _fitted(rows, widest * share, n)
        best, gained = torch.where(gain > gained, fitted, best), torch.maximum(gain, gained)
    for _ in range(_REFINED):
        fitted, gain = _fitted(rows, best, n)
        best = torch.where(gain > 0.0, fitted, best)
    return living(best)


def living(values: Tensor) -> Tensor:
    """Return values a channel, the layer's mean where there is a zero: a channel's step could only stay zero."""
    return torch.where(values > 0.0, values, values.mean(dim=-1, keepdim=True))


def _fitted(rows: Tensor, step: Tensor, n: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return the step that fits another one's codes best, and how far its squared error is below that of zeros."""
    codes = rows * (1.0 / step.clamp(min=SMALLEST_STEP)).unsqueeze(-1)
    largest: Any = n.unsqueeze(-1) if isinstance(n, Tensor) else n
    codes = codes.round_().clamp_(-largest, largest)
    product, square = torch.linalg.vecdot(codes, rows), torch.linalg.vecdot(codes, codes)
    fitted = product / square
    return fitted, fitted * product
