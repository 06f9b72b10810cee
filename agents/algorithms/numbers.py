"""What hyperparameters of Stable-Baselines3 are no numbers, or out of range: it would find out amid a run."""

import inspect
import math
from collections.abc import Callable, Mapping
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
    "target_update_interval",
)
_SHARES = ("gae_lambda", "gamma", "tau")
_OR_NONE = ("clip_range_vf", "target_kl")
_FREE = ("train_freq",)  # a number, or a pair of one and a unit


def check_numbers(algorithm: Callable[..., Any], hyperparams: Mapping[str, Any]) -> None:
    """Check what is a number by default, or if it is given. Schedules, which are functions, are left alone.

    Args:
        algorithm: What takes them.
        hyperparams: By name; those that it does not know are left to it.

    Raises:
        ReLeQError: If one is no number, or out of range.
    """
    parameters = inspect.signature(algorithm).parameters
    for name, value in hyperparams.items():
        default = parameters[name].default if name in parameters else None
        if name in _OR_NONE and value is not None:
            default = 0.0
        if name in _FREE or callable(value) or isinstance(default, bool) or not isinstance(default, int | float):
            continue
        whole = isinstance(default, int)
        number = not isinstance(value, bool) and isinstance(value, int if whole else int | float)
        least, most = (1 if name in _COUNTS else -math.inf), (1 if name in _SHARES else math.inf)
        if name in _SHARES or name == "learning_rate":
            least = 0
        if not number or not math.isfinite(value) or not least <= value <= most:
            what = "a whole number" if whole else "a number"
            bounds = f" from {least} to {most}" if most == 1 else f" of at least {least}" if least > -math.inf else ""
            raise ReLeQError(f"{name}={short(value)} is not accepted; give {what}{bounds}")
