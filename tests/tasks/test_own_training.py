"""How a network of one's own is trained: what is checked before, what stays frozen, what a metric may raise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import releq_env
from releq_env import Problem, ReLeQError
from releq_env.evaluation import own
from releq_env.retraining.probe import Found
from releq_env.tasks import PretrainingRecipe, RetrainingRecipe
from releq_env.tasks import own as own_tasks
from tests.tasks.own_networks import CASES, near
from tests.tasks.test_own import problem_of

FIRST = PretrainingRecipe(epochs=1, batch_size=16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["0"]}, "groups has '0'; give lists"),
        ({"groups": [["0", "1"]]}, "groups has '1', which is no layer"),
        ({"bitwidths": [99]}, "has 99, which lsq does not support"),
        ({"max_cost": 0.01}, "max_cost=0.01 cannot be met"),
        ({"cost": "csv:nowhere.csv"}, "nowhere.csv"),
        ({"metric": lambda outputs, targets: 7.0}, "metric= gives 7"),
    ],
    ids=range(6),
)
def test_arguments_are_checked_before_it_is_trained(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_tasks, "load_pretrained", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(ReLeQError, match=message):
        problem_of(CASES["regression"], pretraining=FIRST, **arguments)


def test_costs_of_layers_in_a_file_are_checked_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(own_tasks, "load_pretrained", lambda *_, **__: pytest.fail("it was trained"))
    (tmp_path / "costs.csv").write_text("layer,bits,cost\nelsewhere,1,1.0\n")
    with pytest.raises(ReLeQError, match="costs.csv"):
        problem_of(CASES["regression"], pretraining=FIRST, cost=f"csv:{tmp_path / 'costs.csv'}")


def strict(outputs: Tensor, targets: Tensor) -> float:
    """As scikit-learn's: an error where outputs are no numbers."""
    if not outputs.isfinite().all():
        raise ValueError("Input contains NaN.")
    return near(outputs, targets)


def test_a_network_that_diverges_has_no_accuracy_whatever_its_metric_says() -> None:
    recipe = RetrainingRecipe(images=48, batch_size=16, learning_rate=1e30)
    problem = problem_of(CASES["regression"], metric=strict, retraining=recipe, cache_key=None)
    assert [each.accuracy for each in problem.evaluator.evaluate_many([(8, 8), (2, 2)])] == [0.0, 0.0]


def test_what_a_metric_raises_later_is_one_line() -> None:
    calls: list[int] = []

    def failing(outputs: Tensor, targets: Tensor) -> float:
        calls.append(len(outputs))
        if len(calls) > 1:
            raise ValueError("no\nmore")
        return near(outputs, targets)

    problem = problem_of(CASES["regression"], metric=failing, cache_key=None)
    with pytest.raises(ReLeQError, match=r"^metric= fails \(ValueError: no more\)$"):
        problem.evaluator.evaluate((8, 8))


def frozen() -> nn.Module:
    """Everything but the last layer is frozen."""
    network = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3), nn.Linear(3, 3))
    network[:4].requires_grad_(False)
    return network


@pytest.mark.parametrize("pretraining", [None, FIRST], ids=["trained", "trained first"])
def test_what_is_frozen_stays_but_for_quantized_weights(pretraining: PretrainingRecipe | None) -> None:
    torch.manual_seed(0)
    model, inputs = frozen(), torch.randn(96, 8)
    data = (inputs[:48], inputs[:48, :3].argmax(1)), (inputs[48:], inputs[48:, :3].argmax(1))
    recipe = RetrainingRecipe(images=96, batch_size=16, learning_rate=0.01)
    problem = Problem.from_network(
        model, *data, skip="3", pretraining=pretraining, retraining=recipe, workers=1, cache=None, precision="fp32"
    )
    source: Any = problem.evaluator.source
    known = dict(source.retraining.pretrained.network.named_parameters())
    trained = {"0.weight", "4.weight", "4.bias"}
    assert {name for name, each in known.items() if each.requires_grad} == trained
    network = releq_env.search(problem, budget=1, progress=False).network
    for name, parameter in model.named_parameters():
        if name not in trained:
            assert torch.equal(network.get_parameter(name), parameter), name
    assert not torch.equal(network.get_submodule("0").parametrizations.weight.original, model[0].weight)
    assert [each.requires_grad for each in model.parameters()] == [False] * 6 + [True] * 2


def test_a_recipe_is_that_of_its_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Found(RetrainingRecipe(32, 16, 1e-3), 0.1, ((1e-3, 0.5),))
    asked: list[int] = []

    def find(*_: Any) -> Found:
        asked.append(1)
        return found

    def made(factor: float) -> Callable[[Tensor, Tensor], float]:
        return lambda outputs, targets: factor * near(outputs, targets)

    monkeypatch.setattr(own, "find_recipe", find)
    monkeypatch.setattr(own, "_FOUND", {})
    one, other = made(1.0), made(0.5)  # of one name
    for metric, searches in ((one, 1), (one, 1), (other, 2), (one, 2)):
        problem_of(CASES["regression"], loss=F.mse_loss, metric=metric, cache_key=None, retraining=None)
        assert len(asked) == searches
    for searches in (3, 3):  # a key stands for them: it is kept in a file
        problem_of(CASES["regression"], metric=made(1.0), cache_key="near", retraining=None)
        assert len(asked) == searches


@pytest.mark.parametrize(("count", "epochs"), [(48, 3), (16, 9), (16, 1), (32, 1)])
def test_any_number_of_steps_is_trained_first(count: int, epochs: int) -> None:
    inputs = torch.randn(count + 10, 8)
    labels = inputs[:, :3].argmax(1)
    recipe = PretrainingRecipe(epochs=epochs, batch_size=16)
    problem = Problem.from_network(
        nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3)),
        (inputs[:count], labels[:count]),
        (inputs[count:], labels[count:]),
        pretraining=recipe,
        retraining=RetrainingRecipe(images=16, batch_size=16),
        workers=1,
        cache=None,
    )
    assert 0.0 <= problem.full_precision_accuracy <= 1.0


def test_a_metric_is_asked_about_infinite_outputs() -> None:
    """Classes that are masked have minus infinity."""

    def right(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs.argmax(1) == targets).float().mean())

    assert own_tasks.FromZero(right)(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0])) == 1.0
    assert own_tasks.FromZero(right)(torch.tensor([[0.0, torch.nan]]), torch.tensor([0])) == 0.0
    assert own_tasks.FromZero(strict)(torch.tensor([[torch.inf]]), torch.tensor([[0.0]])) == 0.0
