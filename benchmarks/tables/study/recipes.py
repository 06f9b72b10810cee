"""The candidates: what a short retraining may do differently.

A recipe's name says all that differs from today's, so a row of the raw files needs nothing beside it.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from releq_env.errors import ReLeQError, check_choice

Steps = Literal["weights", "relative", "log"]


@dataclass(frozen=True)
class Recipe:
    """A variant of the short retraining; the defaults are today's.

    Attributes:
        distil: Share of the loss that comes from the full-precision network's logits; the rest is
            cross-entropy with the labels.
        temperature: Of the softmax of both networks in that share.
        rate: Initial learning rate of weights and biases; `None` is the task's.
        power: A layer's weights are trained at `rate * (2 / bits)**power`: fewer bits, larger rate. A
            layer in full precision counts as 8 bits.
        cap: The largest that the factor of `rate` may become; 1 leaves it as it is at 1 bit.
        steps: What of LSQ's step sizes is trained: themselves, at the weights' rate; their ratio to
            their start; or the logarithm of that ratio, which cannot cross zero.
        step_rate: Initial learning rate of the ratio or its logarithm.
        epsilon: Adam's: gradients far below it hardly move a weight.
    """

    distil: float = 0.0
    temperature: float = 1.0
    rate: float | None = None
    power: float = 0.0
    cap: float = math.inf
    steps: Steps = "weights"
    step_rate: float = 0.0
    epsilon: float = 1e-8

    @property
    def name(self) -> str:
        """Whatever differs from today's, e.g. `distil=1 steps=log step_rate=0.01`; `today` if nothing does."""
        changed = [
            f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        ]
        return " ".join(changed) or "today"

    @classmethod
    def of(cls, name: str) -> "Recipe":
        """Return the recipe of that name.

        Raises:
            ReLeQError: If there is none.
        """
        try:
            pairs = dict(pair.split("=") for pair in name.split()) if name != "today" else {}
            given: dict[str, Any] = {key: value if key == "steps" else float(value) for key, value in pairs.items()}
            recipe = cls(**given)
        except (TypeError, ValueError):
            known = ", ".join(field.name for field in fields(cls))
            raise ReLeQError(
                f"{name!r} is no recipe; give 'today', or what differs from it, e.g. 'distil=1 steps=log "
                f"step_rate=0.01' ({known})"
            ) from None
        check_choice("steps", recipe.steps, get_args(Steps))
        return recipe

    @property
    def without_steps(self) -> "Recipe":
        """The same for a quantizer that trains no step sizes."""
        return replace(self, steps="weights", step_rate=0.0)

    def factor(self, bits: int) -> float:
        """Return what a layer's rate is multiplied by."""
        return min(self.cap, (2.0 / bits) ** self.power)

    def at(self, bits: int) -> "Recipe":
        """Return the simplest recipe that comes to the same where every layer has these bits."""
        factor = self.factor(bits)
        if factor == 1.0:
            return replace(self, power=0.0, cap=math.inf)
        return replace(self, cap=math.inf) if factor == (2.0 / bits) ** self.power else self


TODAY = Recipe()

FIRST = [
    TODAY,
    Recipe(distil=1.0),
    Recipe(distil=1.0, steps="relative", step_rate=0.01),
    Recipe(distil=1.0, steps="log", step_rate=0.01),
    Recipe(distil=0.5, steps="log", step_rate=0.01),
    Recipe(distil=1.0, power=0.5, steps="log", step_rate=0.01),
    Recipe(distil=0.5, power=0.5, steps="log", step_rate=0.01),
    Recipe(distil=0.5, power=1.0, steps="log", step_rate=0.01),
]
"""Screened first."""

SLOWER = [
    Recipe(distil=1.0, rate=5e-4, steps="log", step_rate=0.01),
    Recipe(distil=0.5, rate=5e-4, steps="log", step_rate=0.01),
]
"""Screened with the first seeds only, which showed them points behind at 1 and 2 bits on CIFAR-10."""

_MIXED = Recipe(distil=0.5, power=1.0, steps="log", step_rate=0.01)

SECOND = [
    replace(_MIXED, cap=1.0),
    Recipe(distil=1.0, power=1.0, cap=1.0, steps="log", step_rate=0.01),
    Recipe(distil=1.0, power=1.0, steps="log", step_rate=0.01),
    replace(_MIXED, rate=2e-3),
    Recipe(distil=1.0, rate=2e-3, power=1.0, steps="log", step_rate=0.01),
    replace(_MIXED, distil=0.0),
    replace(_MIXED, step_rate=0.003),
    replace(_MIXED, step_rate=0.03),
    replace(_MIXED, step_rate=0.0),
    replace(_MIXED, temperature=2.0),
    replace(_MIXED, temperature=4.0),
    Recipe(distil=1.0, temperature=4.0, power=1.0, steps="log", step_rate=0.01),
    replace(_MIXED, epsilon=1e-4),
    Recipe(distil=0.5),
    Recipe(steps="log", step_rate=0.01),
    Recipe(rate=5e-4),
]
"""Screened after them: each changes one thing of those above."""

RANKED = [
    TODAY,
    _MIXED,
    Recipe(distil=1.0, steps="log", step_rate=0.01),
    replace(_MIXED, cap=1.0),
    Recipe(distil=1.0, power=1.0, cap=1.0, steps="log", step_rate=0.01),
    Recipe(distil=0.5, power=0.5, steps="log", step_rate=0.01),
]
"""Whose ranks are compared with those after long retraining; the first three before the others."""

FINALISTS = [TODAY, replace(_MIXED, cap=1.0)]
"""The recipe that the study began with, and the one that the screening left: ranked before the others."""
