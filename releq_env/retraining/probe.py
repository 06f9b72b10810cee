"""The short recipe of a network of which nothing is known: measured, not guessed.

Examples come from the time that an evaluation may take, the learning rate from a few retrainings at one
assignment, by their accuracy on validation.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tqdm.auto import tqdm

from releq_env.errors import ReLeQError
from releq_env.retraining.short import ShortRetraining
from releq_env.seeds import each_seed
from releq_env.tasks import RetrainingRecipe

MOST_PROBES = 6
_FACTOR = 3.0  # from one learning rate to the next
_MOST_EPOCHS = 2
_LEAST_STEPS = 30  # for which a batch is made smaller
_SMALLEST_BATCH = 8
_WORTH_TIMING = 0.5  # seconds


@dataclass(frozen=True)
class Found:
    """A recipe that was found.

    Attributes:
        recipe: The recipe.
        seconds: How long an evaluation took, the mean over the probes.
        tried: `(learning rate, accuracy on validation)` of each probe, in the order in which they were made.
    """

    recipe: RetrainingRecipe
    seconds: float
    tried: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        recipe = self.recipe
        return (
            f"short retraining: {recipe.images} examples in batches of {recipe.batch_size}, learning rate "
            f"{recipe.learning_rate:.2g} (the best of {len(self.tried)} tried), {self.seconds:.1f} s an evaluation"
        )

    def described(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def read(cls, described: Any) -> "Found":
        """Return it from what JSON makes of it.

        Raises:
            ValueError: If that is something else.
        """
        try:
            tried = tuple((float(rate), float(accuracy)) for rate, accuracy in described["tried"])
            return cls(RetrainingRecipe(**described["recipe"]), float(described["seconds"]), tried)
        except (KeyError, TypeError, ReLeQError) as error:
            raise ValueError(f"it is no recipe ({error})") from error


def find_recipe(retraining: ShortRetraining, assignment: Sequence[int], seconds: float) -> Found:
    """Find the recipe of a network.

    Args:
        retraining: Of the network, by any recipe.
        assignment: What is retrained for it: one bitwidth a layer, in the middle of what there is.
        seconds: How long an evaluation may take, about.
    """
    single = retraining.reseeded(each_seed(retraining.retrain_seed)[0])
    images, batch = _affordable(single, assignment, seconds / len(each_seed(retraining.retrain_seed)))
    start = single.learning_rate
    tried: dict[float, float] = {}
    times = []
    with tqdm(total=MOST_PROBES, desc="finding a learning rate", unit="retraining", disable=None, leave=False) as bar:
        while len(tried) < MOST_PROBES and (rate := _next(start, tried)) is not None:
            tried[rate], spent = by_recipe(single, RetrainingRecipe(images, batch, rate)).measure(assignment)
            times.append(spent)
            bar.update()
    best = _best(start, tried)
    return Found(RetrainingRecipe(images, batch, best), sum(times) / len(times), tuple(tried.items()))


def by_recipe(retraining: ShortRetraining, recipe: RetrainingRecipe) -> ShortRetraining:
    """Return the same with another recipe; the data are shared."""
    other = copy.copy(retraining)
    other.task = replace(retraining.task, retraining=recipe)
    other.retrain_images = recipe.images
    return other


def _best(start: float, tried: dict[float, float]) -> float:
    return max(tried, key=lambda rate: (tried[rate], -abs(math.log(rate / start))))


def _next(start: float, tried: dict[float, float]) -> float | None:
    """Return the next rate: the first, its neighbours, then on from the best while it is at the end of the row."""
    for rate in (start, start / _FACTOR, start * _FACTOR):
        if rate not in tried:
            return rate
    best = _best(start, tried)
    if best == min(tried):
        return best / _FACTOR
    return best * _FACTOR if best == max(tried) else None


def _affordable(retraining: ShortRetraining, assignment: Sequence[int], seconds: float) -> tuple[int, int]:
    """Return how many examples a retraining may see, and how many at a time."""
    size = len(retraining.load().targets)
    batch = 128 if size >= 4000 else 32
    _timed(retraining, assignment, 0, batch)  # what is done once is not timed
    _, rest = _timed(retraining, assignment, 0, batch)
    examples = 2 * _SMALLEST_BATCH
    while True:
        _timed(retraining, assignment, examples, batch)
        _, spent = _timed(retraining, assignment, examples, batch)
        if spent - rest >= _WORTH_TIMING or examples >= min(4 * batch, size):
            break
        examples *= 2
    affordable = max(seconds - rest, 0.0) * examples / max(spent - rest, 1e-6)
    while batch > _SMALLEST_BATCH and affordable < _LEAST_STEPS * batch:
        batch //= 2
    images = min(affordable, _MOST_EPOCHS * size)
    return max(_rounded(images), min(_SMALLEST_BATCH * batch, _MOST_EPOCHS * size)), batch


def _timed(retraining: ShortRetraining, assignment: Sequence[int], images: int, batch: int) -> tuple[float, float]:
    recipe = RetrainingRecipe(images, batch, retraining.learning_rate)
    return by_recipe(retraining, recipe).measure(assignment)


def _rounded(images: float) -> int:
    """Return a number with two digits: another run's clock should not make another recipe."""
    unit = 10 ** max(math.floor(math.log10(max(images, 1.0))) - 1, 0)
    return int(images // unit * unit)
