"""Two problems of one network that leave out different layers share no result."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from releq_env import AccuracyTable, FinalRecipe, Problem, ReLeQError, finalize
from releq_env.evaluation import own
from releq_env.evaluation.live import live_source
from releq_env.retraining.probe import find_recipe
from releq_env.tasks import RetrainingRecipe
from releq_env.tasks.task import top1_accuracy
from tests.finalizing.small import Trainings

RECIPE = FinalRecipe(epochs=1, batch_size=20, control_rates=(1e-3,))
HEAD, STEM = ["4"], ["0"]


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that nothing stands for."""
    return (outputs.softmax(1).gather(1, targets[:, None]) - 1.0).square().mean()


UNKNOWN = {"loss": squares, "metric": top1_accuracy}


def problem(skip: list[str], cache: Path | None = None, **arguments: Any) -> Problem:
    """Return a problem of the network without some layers; network and data are always the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    return of_model(model, cache, skip=skip, **{"retraining": RetrainingRecipe(32, batch_size=20)} | arguments)


def of_model(model: nn.Module, cache: Path | None, **arguments: Any) -> Problem:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2, 40, 6, generator=generator)
    with torch.no_grad():
        parts = [(part, model(part).argmax(1)) for part in inputs]
    return Problem.from_network(model, *parts, cache=cache, workers=1, precision="fp32", **arguments)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_an_accuracy_is_not_looked_up_for_other_layers(tmp_path: Path) -> None:
    made = [problem(skip, tmp_path / "cache.sqlite") for skip in (HEAD, STEM, HEAD)]
    assert [[layer.name for layer in each.layers] for each in made] == [["0", "2"], ["2", "4"], ["0", "2"]]
    for each in made:
        each.evaluator.evaluate((2, 8))
    assert [each.evaluator.retrained for each in made] == [1, 1, 0]


class Branches(nn.Module):
    """Two layers of one shape, called in either order."""

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(6, 3)
        self._swapped = swapped

    def forward(self, inputs: Tensor) -> Tensor:
        if self._swapped:
            return self.second(inputs) + self.first(inputs)
        return self.first(inputs) + self.second(inputs)


def test_an_accuracy_is_not_looked_up_for_another_order_of_the_layers(tmp_path: Path) -> None:
    made = []
    for swapped in (False, True):
        torch.manual_seed(0)
        recipe = RetrainingRecipe(0)
        made.append(of_model(Branches(swapped), tmp_path / "cache.sqlite", retraining=recipe))
    assert made[0].layers[0].name == made[1].layers[1].name
    for each in made:
        each.evaluator.evaluate((1, 8))
    assert [each.evaluator.retrained for each in made] == [1, 1]


@pytest.mark.parametrize("arguments", [{}, UNKNOWN], ids=["on disk", "in memory"])
def test_a_recipe_is_found_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    found = []

    def finding(engine: Any, *rest: Any) -> Any:
        found.append([layer.name for layer in engine.pretrained.layers])
        return find_recipe(engine, *rest)

    monkeypatch.setattr(own, "find_recipe", finding)
    monkeypatch.setattr(own, "_FOUND", {})
    for skip in (HEAD, STEM, HEAD):
        problem(skip, tmp_path / "cache.sqlite", retraining=None, seconds=0.02, **arguments)
    assert found == [["0", "2"], ["2", "4"]]


@pytest.mark.parametrize("arguments", [{}, UNKNOWN], ids=["known", "unknown loss"])
def test_a_final_network_is_not_taken_for_the_other(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    trainings = Trainings(monkeypatch)
    final: Callable[..., Any] = lambda skip, **more: finalize(  # noqa: E731
        problem(skip, **arguments), (2, 4), seeds=(0,), recipe=RECIPE, controls="controls", progress=False, **more
    )
    first = final(HEAD)
    assert first.layers == ("0", "2")
    with pytest.raises(ReLeQError, match="was begun with another layers; give another folder"):
        final(STEM)
    assert final(STEM, folder="other").layers == ("2", "4")
    assert final(HEAD) == first
    assert trainings.seeds == [0, 0]
    assert trainings.control_rates == [1e-3]  # the full-precision network is the same


def test_keys_of_networks_with_all_layers_are_what_they_were() -> None:
    """Else nobody's cache, and no table that was measured before, would be of the task any more."""
    then = AccuracyTable.load("mnist-wrpn").about["accuracy_depends_on"]
    now = live_source("mnist", quantizer="wrpn", precision="fp32", workers=1).fingerprint
    assert now is not None

    def everywhere(known: Mapping[str, Any]) -> dict[str, Any]:
        """Return what does not depend on the machine, in the order in which it is hashed."""
        known = json.loads(json.dumps(known, sort_keys=True))
        return {name: known[name] for name in known if name not in ("torch", "instructions", "retrain_seed", "network")}

    assert everywhere(now) == everywhere(then)
    assert dict(now["network"]).keys() == then["network"].keys()
