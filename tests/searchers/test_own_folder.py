"""The folder of a search of a network of one's own whose loss and metric nothing stands for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor

from releq_env import ReLeQError, SearchResult, search
from releq_env.searchers import folder as folders
from releq_env.searchers.folder import _recipe_of
from releq_env.tasks import RetrainingRecipe
from tests.tasks.own_networks import CASES, near


def half(outputs: Tensor, targets: Tensor) -> float:
    return 0.5 * near(outputs, targets)


def searched(folder: Path, metric: Callable[[Tensor, Tensor], float] = near, **arguments: Any) -> SearchResult:
    model, training, validation = CASES["regression"].made()
    given: dict[str, Any] = {"retraining": RetrainingRecipe(images=32, batch_size=16), "precision": "fp32"}
    given |= {"workers": 1, "budget": 2, "method": "random", "progress": False} | arguments
    validation = arguments.pop("validation", validation)
    given.pop("validation", None)
    return search(model, training, validation, loss=F.mse_loss, metric=metric, folder=folder, **given)


def test_it_goes_on_in_its_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = searched(tmp_path)
    again = searched(tmp_path, budget=3)
    assert again.evaluations[:2] == first.evaluations
    assert again.problem.evaluator.retrained == 1
    again.save(tmp_path)
    monkeypatch.setattr(folders, "_FUNCTIONS", {})  # as in another process
    for call in (lambda: searched(tmp_path, budget=4), lambda: first.save(tmp_path)):
        with pytest.raises(
            ReLeQError, match="cannot be told from others; give another folder, and cache_key="
        ) as found:
            call()
        assert "\n" not in str(found.value)


def test_an_empty_folder_of_another_process_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched(tmp_path)
    rows = tmp_path / "evaluations.csv"
    rows.write_text(rows.read_text().splitlines(keepends=True)[0])
    monkeypatch.setattr(folders, "_FUNCTIONS", {})
    assert len(searched(tmp_path).evaluations) == 2


def test_other_functions_of_the_same_process_are_others(tmp_path: Path) -> None:
    searched(tmp_path, lambda outputs, targets: 1.0 * near(outputs, targets))
    with pytest.raises(ReLeQError, match="cannot be told from others"):
        searched(tmp_path, lambda outputs, targets: 1.0 * near(outputs, targets))


def test_with_a_key_it_goes_on_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched(tmp_path, cache_key="near")
    monkeypatch.setattr(folders, "_FUNCTIONS", {})
    assert searched(tmp_path, cache_key="near", budget=3, cache=None).problem.evaluator.retrained == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retraining": RetrainingRecipe(images=48, batch_size=16)}, "another retraining"),
        ({"retraining": RetrainingRecipe(images=32, batch_size=16, learning_rate=0.1)}, "another retraining"),
        ({"quantizer": "dorefa"}, "another .*quantizer"),
        ({"retrain_seed": 1}, "another retrain_seed"),
        ({"precision": "bf16"}, "another precision"),
        ({"metric": half}, "another full_precision_accuracy"),
        ({"validation": (CASES["regression"].made()[1][0] + 1.0, CASES["regression"].made()[1][1])}, "another data"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_question_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    searched(tmp_path)
    with pytest.raises(ReLeQError, match=f"holds a search with {message}.*; give another folder"):
        searched(tmp_path, **change)


def test_a_recipe_that_is_found_anew_is_named(tmp_path: Path) -> None:
    before = {"settings": {}, "own": {"found": {"recipe": {"images": 64, "batch_size": 8}}}}
    assert "retraining=releq_env.tasks.RetrainingRecipe(images=64, batch_size=8)" in _recipe_of(before)
    assert _recipe_of({"own": None}) == _recipe_of({}) == ""
