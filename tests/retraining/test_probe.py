"""A recipe is found by few retrainings, and the best learning rate of those tried is taken."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.evaluation.live import live_source
from releq_env.retraining import probe
from releq_env.retraining.probe import MOST_PROBES, Found, find_recipe
from releq_env.tasks import TASKS, RetrainingRecipe

START = 1e-3


class Engine:
    """Stands in for a `ShortRetraining`: the accuracy is a function of the rate, the time one of the examples.

    Args:
        best: The learning rate at which accuracy is highest.
        a_second: How many examples a second takes.
        rest: Seconds of everything else.
        size: How many training examples there are.
    """

    def __init__(self, best: float, a_second: float = 1000.0, rest: float = 0.1, size: int = 5000) -> None:
        self.best, self.a_second, self.rest, self.size = best, a_second, rest, size
        self.task, self.retrain_images, self.retrain_seed = TASKS["digits"], 0, 0
        self.probes: list[RetrainingRecipe] = []
        self.learning_rate = START
        self.assignments: list[tuple[int, ...]] = []

    def load(self) -> Any:
        return type("Data", (), {"targets": range(self.size)})

    def reseeded(self, seed: int) -> "Engine":
        return self

    def measure(self, assignment: tuple[int, ...]) -> tuple[float, float]:
        recipe = self.task.retraining
        self.probes.append(recipe)
        self.assignments.append(assignment)
        rate = recipe.learning_rate or START
        return 0.9 / (1.0 + abs(math.log(rate / self.best))), self.rest + self.retrain_images / self.a_second


def found_by(engine: Any, seconds: float = 2.0) -> Found:
    return find_recipe(engine, (4, 4), seconds)


@given(st.floats(-4.0, 4.0))
def test_the_nearest_rate_of_the_row_is_found(steps: float) -> None:
    engine = Engine(START * 3.0**steps)
    found = found_by(engine)
    assert 3 <= len(found.tried) <= MOST_PROBES
    assert len({rate for rate, _ in found.tried}) == len(found.tried)
    rate = found.recipe.learning_rate
    assert rate is not None
    assert max(found.tried, key=lambda pair: pair[1])[0] == rate
    if abs(steps) < 3.5:  # farther away there is no probe left
        assert abs(math.log(rate / engine.best)) <= math.log(3.0) / 2 + 1e-9
    assert set(engine.assignments) == {(4, 4)}


@pytest.mark.parametrize(
    ("engine", "seconds", "images", "batch"),
    [
        (lambda: Engine(START), 2.1, 2000, 64),  # what fits into the time, with at least 30 steps
        (lambda: Engine(START), 100.0, 10_000, 128),  # two passes at most
        (lambda: Engine(START, size=800), 100.0, 1600, 32),
        (lambda: Engine(START, a_second=100.0), 2.1, 200, 8),
        (lambda: Engine(START, rest=5.0), 2.0, 64, 8),  # measuring alone takes longer
        (lambda: Engine(START, size=20, rest=5.0), 2.0, 40, 8),
    ],
    ids=range(6),
)
def test_examples_by_time(engine: Callable[[], Engine], seconds: float, images: int, batch: int) -> None:
    made = engine()
    recipe = found_by(made, seconds).recipe
    assert recipe.batch_size == batch
    assert recipe.images == pytest.approx(images, rel=0.05)


def test_several_retraining_seeds_share_the_time() -> None:
    engine = Engine(START)
    engine.retrain_seed = (0, 1)  # type: ignore[assignment]
    assert found_by(engine, 4.2).recipe.images == pytest.approx(2000, rel=0.05)


def test_it_is_written_and_read() -> None:
    found = found_by(Engine(START * 9.0))
    assert Found.read(json.loads(json.dumps(found.described()))) == found
    assert "learning rate 0.009 (the best of 5 tried)" in str(found)
    for damaged in (None, {}, {"recipe": {}, "seconds": 1, "tried": []}, {**found.described(), "tried": [1]}):
        with pytest.raises(ValueError, match="no recipe"):
            Found.read(damaged)


def test_of_a_real_network() -> None:
    retraining = live_source("digits", retrain_images=0).retraining
    found = find_recipe(retraining, (3, 3, 3, 3), 0.3)
    assert 8 <= found.recipe.images <= 1600
    assert retraining.retrain_images == 0
    assert 0.5 < max(accuracy for _, accuracy in found.tried) <= 1.0
    assert (
        probe.by_recipe(retraining, found.recipe).measure((3, 3, 3, 3))[0]
        == dict(found.tried)[
            found.recipe.learning_rate  # type: ignore[index]
        ]
    )
