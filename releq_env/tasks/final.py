"""How an assignment is retrained at last, and the table of these recipes: one a built-in task."""

from dataclasses import dataclass, fields
from numbers import Real

from releq_env.errors import ReLeQError, check_number, check_whole, short
from releq_env.tasks.task import TASKS, Task

_LEAST_BATCH = 32


@dataclass(frozen=True)
class FinalRecipe:
    """A long retraining: Adam, the rates falling as a cosine to zero.

    The full-precision control is retrained by the same recipe and for as many epochs in all; only what has to do with
    quantizing means nothing there (`CONTROL_IGNORES`), and it may choose among several learning rates.

    Attributes:
        epochs: Passes over the training part, those of `warm_start` not counted.
        learning_rate: Of a quantized network's weights at 2 bits or fewer; see `parameter_groups` for more bits.
        control_rates: The learning rates of which the control has the best, by mean validation accuracy over the
            seeds. Tune `learning_rate` over the same, so that neither side is tuned more.
        batch_size: Examples a step.
        distillation: Share of the loss that comes from the full-precision network's outputs, in [0, 1]; the
            rest is the task's loss. Nothing for a task without a loss of that kind.
        distillation_end: What that share changes to, linearly over the steps; `None`: it stays.
        temperature: That outputs are divided by in the distillation's loss, which is multiplied by its square
            (Hinton et al. 2015, arXiv 1503.02531).
        step_rate: Learning rate of what quantizers train themselves (of `lsq` the logarithms of step sizes);
            `None`: what each says, 0.01 of `lsq`.
        flip: Whether half of the inputs, which are images, are mirrored left to right.
        shift: Largest random shift, in pixels, zero padded.
        warm_start: Epochs with one bit more a layer (as far as the quantizer has them) before the retraining
            proper, which starts from the weights found.
        average: Decay a step of the running average of all parameters that is taken in place of the last ones;
            0.0 takes the last ones.
        freeze: Share of the epochs, the last ones, in which the weights that are quantized rest and only what
            is beside them is trained.
        live_batch_norm: Whether batch normalisation goes on estimating its statistics. Otherwise they are
            estimated once, with the quantized weights, and stay, which is faster.

    Raises:
        ReLeQError: If a value is not accepted.
    """

    epochs: int = 30
    learning_rate: float = 1e-3
    control_rates: tuple[float, ...] = (1e-3, 3e-4, 1e-4)
    batch_size: int = 128
    distillation: float = 0.5
    distillation_end: float | None = None
    temperature: float = 1.0
    step_rate: float | None = None
    flip: bool = False
    shift: int = 0
    warm_start: int = 0
    average: float = 0.0
    freeze: float = 0.0
    live_batch_norm: bool = False

    def __post_init__(self) -> None:
        rates = self.control_rates
        if isinstance(rates, Real):
            rates = (float(rates),)
        if not isinstance(rates, tuple | list) or not rates:
            raise ReLeQError(f"control_rates={short(rates)} is not accepted; give at least one learning rate")
        object.__setattr__(self, "control_rates", tuple(rates))  # recipes are compared and hashed
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("warm_start", 0)):
            check_whole(name, getattr(self, name), least)
        for name in ("flip", "live_batch_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ReLeQError(f"{name}={short(getattr(self, name))} is not accepted; give True or False")
        for name in ("learning_rate", "temperature"):
            check_number(name, getattr(self, name), above=0.0)
        for rate in self.control_rates:
            check_number("control_rates", rate, above=0.0)
        if self.step_rate is not None:
            check_number("step_rate", self.step_rate)
        for name in ("distillation", "freeze"):
            check_number(name, getattr(self, name), most=1.0)
        if self.distillation_end is not None:
            check_number("distillation_end", self.distillation_end, most=1.0)
        check_number("average", self.average, below=1.0)


CONTROL_IGNORES = ("learning_rate", "step_rate", "warm_start", "freeze")
"""Fields of a recipe that mean nothing to the control: those who differ in them alone share theirs."""


FINAL_RECIPES: dict[str, FinalRecipe] = {
    "digits": FinalRecipe(batch_size=32),
    "mnist": FinalRecipe(),
    "fashion-mnist": FinalRecipe(flip=True),
    "cifar10": FinalRecipe(flip=True, shift=2),
    "svhn": FinalRecipe(shift=2),
}
"""By the task's name. Inputs are augmented as in pre-training."""

FIELDS = tuple(field.name for field in fields(FinalRecipe))
"""The names of a recipe's values."""


def final_recipe(task: Task) -> FinalRecipe:
    """Return the recipe of a task: the table's, else the plain one with the task's batches and augmentation.

    Batches have at least 32 examples: those of a short retraining may be smaller only to have more steps.
    """
    if TASKS.get(task.name) is task and task.name in FINAL_RECIPES:
        return FINAL_RECIPES[task.name]
    recipe = task.pretraining
    return FinalRecipe(batch_size=max(_LEAST_BATCH, task.retraining.batch_size), flip=recipe.flip, shift=recipe.shift)
