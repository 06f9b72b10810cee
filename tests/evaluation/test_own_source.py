"""The source of a network of one's own: what is refused, and whose fault it is where a recipe cannot be found."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from releq_env import Problem, ReLeQError
from releq_env.evaluation import own
from releq_env.tasks import RetrainingRecipe
from tests.tasks.own_networks import CASES, near


def regression(model: nn.Module | None = None, **arguments: Any) -> Problem:
    made, training, validation = CASES["regression"].made()
    given: dict[str, Any] = {"loss": F.mse_loss, "metric": near, "cache_key": "near", "precision": "fp32", "workers": 1}
    return Problem.from_network(model or made, training, validation, **given | arguments)


def test_what_finding_a_recipe_raises_is_not_the_folders_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "labels.txt")

    with monkeypatch.context() as patched:
        patched.setattr(own, "find_recipe", missing)
        with pytest.raises(FileNotFoundError, match=r"labels\.txt"):
            regression(cache=tmp_path / "cache.sqlite")
    found = regression(cache=tmp_path / "cache.sqlite", seconds=0.02).own  # nobody holds the lock any more
    monkeypatch.setattr(own, "find_recipe", missing)
    again = regression(cache=tmp_path / "cache.sqlite", seconds=0.02).own
    assert found is not None and again is not None
    assert again.recipe == found.recipe


def test_a_recipe_that_cannot_be_kept_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache.recipes").write_text("in the way")
    with pytest.raises(ReLeQError, match="the recipe cannot be kept in .*; give another cache=") as raised:
        regression(cache=tmp_path / "cache.sqlite")
    assert "\n" not in str(raised.value)


def test_stacked_refuses_shared_weights_not_words() -> None:
    model = CASES["regression"].made()[0]
    other = type("same weight", (nn.Module,), {})()  # as somebody's class may be called
    other.matrix = nn.Parameter(torch.zeros(2, 2))
    model.get_submodule("0").add_module("other", other)
    recipe = RetrainingRecipe(images=16, batch_size=16)
    problem = regression(model, parallel="stacked", workers=None, retraining=recipe, cache=None)
    assert problem.own is not None
    assert "same weight" in problem.own.left_out["0.other.matrix"]


@pytest.mark.parametrize("trained", [False, True])
def test_a_classifier_that_only_guesses_is_said_to_be_untrained(
    trained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    classes = (inputs[:, 0] < 0.6).long()
    classes[100:] = torch.arange(100) >= 30  # 0.7 is no number of float32
    inputs[100:, 0] = torch.where(classes[100:] == 1, 0.1, 0.9)
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]) * float(trained))
        model[0].bias.copy_(torch.tensor([-0.6, 0.6]))
    recipe = RetrainingRecipe(images=16, batch_size=16)
    training, validation = (inputs[:100], classes[:100]), (inputs[100:], classes[100:])
    Problem.from_network(model, training, validation, retraining=recipe, workers=1, cache=None)
    assert ("it seems not to be trained" in capsys.readouterr().err) != trained
