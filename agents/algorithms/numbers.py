"""The hyperparameters of Stable-Baselines3 that are numbers: some that cannot be it would refuse amid a run only."""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from releq_env.errors import ReLeQError, short

_COUNTS = (
    "batch_size",
    "buffer_size",
    "cg_max_steps",
    "line_search_max_iter",
    "n_critic_updates",
    "n_epochs",
    "n_steps",
    "policy_delay",
    "stats_window_size",
    "target_update_interval",
    "train_freq",
)
"""At least 1."""
_SHARES = ("exploration_final_eps", "exploration_fraction", "exploration_initial_eps", "gae_lambda", "gamma", "tau")
"""From 0 to 1."""
_POSITIVE = ("clip_range", "clip_range_vf", "learning_rate", "max_grad_norm", "target_kl", "vf_coef")
"""At least 0."""
_OR_NONE = ("clip_range_vf", "max_grad_norm", "target_kl")
"""Numbers, but their default may be `None`."""


def checked_numbers(algorithm: Callable[..., Any], hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with whole numbers, such as 1e3, as such where they are asked for.

    Args:
        algorithm: What takes them.
        hyperparams: By name. What is no number by default, functions (schedules) and unknown names are left alone.

    Raises:
        ReLeQError: If one is no number, or out of range.
    """
    parameters = inspect.signature(algorithm).parameters
    return {name: _checked(name, value, parameters.get(name)) for name, value in hyperparams.items()}


def _checked(name: str, value: Any, parameter: inspect.Parameter | None) -> Any:
    default = None if parameter is None else parameter.default
    if name in _OR_NONE and value is not None:
        default = 0.0
    known = isinstance(default, Real) and not isinstance(default, bool)
    if not known or parameter is None or callable(value) or name == "verbose":
        return value
    if name == "train_freq" and isinstance(value, list | tuple):  # and a unit
        return value
    whole = isinstance(default, Integral) and parameter.annotation is not float
    if whole and isinstance(value, float) and value.is_integer():
        value = int(value)
    least = 1 if name in _COUNTS else 0 if name in (*_SHARES, *_POSITIVE) else -math.inf
    most = 1 if name in _SHARES else math.inf
    is_one = not isinstance(value, bool) and isinstance(value, Integral if whole else Real)
    finite = is_one and (math.isfinite(value) or name == "max_grad_norm")  # infinite: nothing is clipped
    if not finite or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        bounds = f" from {least} to {most}" if most == 1 else f" of at least {least}" if least > -math.inf else ""
        raise ReLeQError(f"{name}={short(value)} is not accepted; give {what}{bounds}")
    return value
