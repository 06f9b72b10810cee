"""Steps with which rounding changes weights little: where those of `lsq` start.

The published start, `2 mean|w| / sqrt(n)` with `n` the largest level (Esser et al. 2020, section 2.1), is larger than
the step of least squared error for the weights of a trained layer: on a bell curve at 4 bits with twice the error, at 8
bits with more than 20 times. Training has to shrink it, and a short one has not the time (`python -m
benchmarks.learned_steps`). That a start of least error is better is known of activations (Bhalgat et al. 2020, LSQ+,
arXiv 2004.09576).
"""

from typing import Any

import torch
from torch import Tensor

from releq_env.quantization.base import SMALLEST_STEP

_SHARES = tuple(0.85**k for k in range(17))  # of the largest weight, 1 to 0.07: where the range may end
_REFINED = 2  # times levels and steps are fitted to each other
_PIECE = {"cpu": 2**18}  # weights at once: what is passed over so often should stay in the processor's cache
_PIECE_ELSEWHERE = 2**26  # a launch takes longer than a small piece does
_FAINT = 0.01  # of the layer's mean step is that of a channel of zeros, where zero is no level: it shifts its output


def least_error_steps(rows: Tensor, top: Tensor | float, shift: Tensor | float) -> Tensor:
    """Return a step near the least squared error a channel, shape `(..., n_channels)`.

    Of a row of ranges the best, each with the step that fits its levels best; then by turns the levels of a step and
    the step of the levels (Lloyd 1982), by which the error never grows. A channel of zeros gets the layer's mean step,
    or little of it: its own could only stay zero.

    Args:
        rows: Weights, shape `(..., n_channels, weights per channel)`.
        top: The largest level: one for all, or a candidate's each, shape `(K, 1)`.
        shift: 0, or 0.5 where levels are halves; likewise.
    """
    weights = rows.numel() // max(1, rows.shape[-2])
    pieces = rows.split(max(1, _PIECE.get(rows.device.type, _PIECE_ELSEWHERE) // max(1, weights)), dim=-2)
    with torch.autocast(rows.device.type, enabled=False):
        steps = torch.cat([_of_least_error(piece, top, shift) for piece in pieces], dim=-1)
    share: Tensor | float = _FAINT ** (2.0 * shift)  # 1 where zero is a level
    return torch.where(steps > 0.0, steps, share * steps.mean(dim=-1, keepdim=True))


def _of_least_error(rows: Tensor, top: Tensor | float, shift: Tensor | float) -> Tensor:
    widest = rows.abs().amax(dim=-1) / (top + shift)
    best, gained = widest, torch.zeros_like(widest)
    for share in _SHARES:
        fitted, gain = _fitted(rows, widest * share, top, shift)
        best, gained = torch.where(gain > gained, fitted, best), torch.maximum(gain, gained)
    for _ in range(_REFINED):
        fitted, gain = _fitted(rows, best, top, shift)
        best = torch.where(gain > 0.0, fitted, best)
    return best


def _fitted(rows: Tensor, step: Tensor, top: Tensor | float, shift: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return the step that fits another one's levels best, and how far its squared error is below that of zeros."""
    highest, half = _spread(top), _spread(shift)
    scaled = rows * (1.0 / step.clamp(min=SMALLEST_STEP)).unsqueeze(-1)
    levels = scaled.sub_(half).round_().add_(half).clamp_(-highest, highest)
    product, square = torch.linalg.vecdot(levels, rows), torch.linalg.vecdot(levels, levels)
    fitted = product / square
    return fitted, fitted * product


def _spread(values: Tensor | float) -> Any:
    return values.unsqueeze(-1) if isinstance(values, Tensor) else values
