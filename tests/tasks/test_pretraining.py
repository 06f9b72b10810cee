import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.errors import ReLeQError
from releq_env.tasks import TASKS, PretrainingRecipe, RetrainingRecipe, Task, load_pretrained, make_weights, pretraining
from releq_env.tasks.augmentation import Augmentation
from releq_env.tasks.datasets import Dataset, Examples
from releq_env.tasks.networks import DigitsNet
from releq_env.tasks.pretraining import pretrain, score
from tests.fakes import RandomImages, random_dataset

RECIPE = PretrainingRecipe(epochs=4, batch_size=10, shift=1, flip=True)


@pytest.fixture
def task() -> Task:
    """A task of 50 training images whose weights are not shipped."""
    return replace(TASKS["digits"], name="tiny", dataset=random_dataset(), pretraining=RECIPE)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that were really trained."""
    names: list[str] = []

    def counted(task: Task, *args: Any, **kwargs: Any) -> Any:
        names.append(task.name)
        return pretrain(task, *args, **kwargs)

    monkeypatch.setattr(pretraining, "pretrain", counted)
    return names


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Interrupt training at its n-th step from now; 0: never again."""

    def at(step: int) -> None:
        left = [step]

        def interrupting(*args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return augmented(*args)

        augmented = Augmentation.__call__
        monkeypatch.setattr(Augmentation, "__call__", interrupting)

    return at


def test_trained_on_first_use_and_then_cached(task: Task, trainings: list[str], tmp_path: Path) -> None:
    first = load_pretrained(task)
    second = load_pretrained(task)
    assert trainings == ["tiny"]
    assert first.sha256 == second.sha256
    assert first.accuracy == second.accuracy
    assert not first.network.training
    files = sorted(path.suffix for path in (tmp_path / "releq-cache" / "weights").iterdir())
    assert ".checkpoint" not in files
    assert {".json", ".safetensors"} <= set(files)


def test_the_callers_own_network_is_not_trained(task: Task) -> None:
    network = DigitsNet()
    before = copy.deepcopy(network.state_dict())
    task = replace(task, network=lambda: network)
    trained = load_pretrained(task).network
    pretrain(task)
    assert task.untrained() is not network
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not torch.equal(trained.conv1.weight, network.conv1.weight)  # type: ignore[union-attr,arg-type]


def test_an_environment_trains_on_first_use(task: Task, trainings: list[str]) -> None:
    task = replace(task, retraining=RetrainingRecipe(images=20, batch_size=10))
    for _ in range(2):
        env = gym.make("ReLeQ-Digits-v0", problem=task, cache=None)
        env.reset()
        for _ in range(4):
            *_, info = env.step(1)
        assert 0.0 <= info["accuracy"] <= 1.0
    assert trainings == ["tiny"]


def test_another_recipe_is_trained_anew(task: Task, trainings: list[str]) -> None:
    first = load_pretrained(task)
    second = load_pretrained(replace(task, pretraining=replace(RECIPE, epochs=2)))
    assert trainings == ["tiny", "tiny"]
    assert first.sha256 != second.sha256


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers_train(task: Task, optimizer: str) -> None:
    rate = {"sgd": 0.05, "adamw": 3e-3}[optimizer]
    recipe = PretrainingRecipe(epochs=20, batch_size=10, optimizer=optimizer, learning_rate=rate)
    network, _ = pretrain(replace(task, pretraining=recipe))
    training, _ = task.dataset.load()
    assert score(network, training, task) > 0.5


def test_training_is_reproducible_and_leaves_the_global_generator_alone(task: Task) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, _ = pretrain(task)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second, _ = pretrain(task)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("step", [3, 8, 12])  # of 5 an epoch: before the first checkpoint, and in later epochs
def test_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    task: Task, step: int, interrupt: Callable[[int], None], tmp_path: Path
) -> None:
    expected, accuracies = pretrain(task)
    checkpoint = tmp_path / "tiny.checkpoint"
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        pretrain(task, checkpoint=checkpoint)
    assert checkpoint.exists() == (step > 5)
    interrupt(0)
    network, resumed = pretrain(task, checkpoint=checkpoint)
    assert resumed == accuracies
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
    assert not checkpoint.exists()


class Dropping(nn.Sequential):
    """A network with dropout."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))


def test_dropout_follows_the_seed_also_where_training_is_resumed(
    task: Task, interrupt: Callable[[int], None], tmp_path: Path
) -> None:
    task = replace(task, network=Dropping)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    expected, _ = pretrain(task)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    interrupt(8)
    with pytest.raises(KeyboardInterrupt):
        pretrain(task, checkpoint=tmp_path / "tiny.checkpoint")
    interrupt(0)
    network, _ = pretrain(task, checkpoint=tmp_path / "tiny.checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))
    other, _ = pretrain(replace(task, pretraining=replace(RECIPE, seed=1)))
    assert not torch.equal(next(other.parameters()), next(expected.parameters()))


def test_fewer_images_than_a_batch(task: Task) -> None:
    task = replace(task, pretraining=replace(RECIPE, batch_size=500, epochs=30))
    network, _ = pretrain(task)
    training, _ = task.dataset.load()
    assert score(network, training, task) > 0.3


def test_an_accuracy_of_zero_is_one_line(task: Task) -> None:
    with (
        pytest.warns(UserWarning, match="cache_key"),
        pytest.raises(ReLeQError, match="tiny has a validation accuracy of 0.0") as raised,
    ):
        load_pretrained(replace(task, metric=lambda outputs, targets: 0.0))
    assert "\n" not in str(raised.value)


# Other tasks than classification of images


def line(root: Path, train: bool, download: bool) -> Examples:
    """Series of five channels, and the mean of the first as target."""
    inputs = torch.randn(200, 5, 6, generator=torch.Generator().manual_seed(int(train)))
    return Examples(inputs, inputs[:, :1].mean(dim=2))


def explained(outputs: Tensor, targets: Tensor) -> float:
    """The share of the targets' variance that is explained, at least 0."""
    return max(0.0, 1.0 - ((outputs - targets).square().mean() / targets.var()).item())


@pytest.fixture
def regression(task: Task) -> Task:
    """A one-dimensional convolution that predicts a number."""
    return replace(
        task,
        network=lambda: nn.Sequential(nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Linear(16, 1)),
        dataset=Dataset(name="Line", input_shape=(5, 6), read=line, validation_images=50),
        pretraining=PretrainingRecipe(epochs=60, batch_size=10, optimizer="adamw", learning_rate=1e-2),
        loss=F.mse_loss,
        metric=explained,
        cache_key="explained variance",
    )


def test_loss_metric_and_data_are_the_tasks(regression: Task) -> None:
    pretrained = load_pretrained(regression)
    assert pretrained.accuracy > 0.9
    _, validation = regression.dataset.load()
    assert score(pretrained.network, validation, regression) == pretrained.accuracy
    assert [layer.name for layer in pretrained.layers] == ["0", "2"]


def test_convolutions_of_volumes(task: Task) -> None:
    def volumes(root: Path, train: bool, download: bool) -> Examples:
        data = RandomImages()(root, train, download)
        return Examples(data.inputs.reshape(-1, 1, 4, 4, 4), data.targets)

    network, _ = pretrain(
        replace(
            task,
            network=lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(32, 10)),
            dataset=replace(task.dataset, input_shape=(1, 4, 4, 4), read=volumes),
            pretraining=PretrainingRecipe(epochs=1),
        )
    )
    assert not network.training


@pytest.mark.parametrize("change", [{"flip": True}, {"shift": 1}])
def test_only_images_are_mirrored_and_shifted(regression: Task, change: dict[str, Any]) -> None:
    task = replace(regression, pretraining=replace(regression.pretraining, **change))
    with pytest.raises(ReLeQError, match=r"\(5, 6\) cannot be mirrored or shifted; .*flip=False and shift=0"):
        load_pretrained(task)


def test_first_use_goes_on_where_it_was_interrupted(
    task: Task, interrupt: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "uninterrupted"))
    expected = load_pretrained(task)
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "interrupted"))
    interrupt(13)
    with pytest.raises(KeyboardInterrupt):
        load_pretrained(task)
    interrupt(11)  # ten of the twenty steps are left: an eleventh would raise
    assert load_pretrained(task).sha256 == expected.sha256


def test_training_learns(task: Task) -> None:
    task = replace(task, pretraining=PretrainingRecipe(epochs=30, batch_size=10))
    network, accuracies = pretrain(task)
    training, _ = task.dataset.load()
    assert score(network, training, task) > 0.9
    assert set(accuracies) == {"validation_accuracy"}


def test_test_data_are_read_only_when_asked_for(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(task, pretraining=replace(RECIPE, epochs=1))
    _, accuracies = pretrain(short, with_test=True)
    assert set(accuracies) == {"validation_accuracy", "test_accuracy"}

    def refuse(*args: object) -> None:
        raise AssertionError("the test data were read")

    monkeypatch.setattr(type(task.dataset), "load_test", refuse)
    pretrain(short)


def test_two_processes_train_once(python: Callable[..., str]) -> None:
    code = """
from dataclasses import replace
from releq_env.tasks import TASKS, load_pretrained, PretrainingRecipe, pretraining
from tests.fakes import random_dataset

task = replace(TASKS["digits"], name="tiny", dataset=random_dataset(),
               pretraining=PretrainingRecipe(epochs=4, batch_size=10))
original, trained = pretraining.pretrain, []
def counted(*args, **kwargs):
    trained.append(1)
    return original(*args, **kwargs)
pretraining.pretrain = counted
print(load_pretrained(task).sha256, len(trained))
"""
    with ThreadPoolExecutor(2) as pool:
        first, second = (printed.split() for printed in pool.map(python, [code] * 2))
    assert first[0] == second[0]
    assert sorted((first[1], second[1])) == ["0", "1"]


def test_command_line_makes_weights(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "digits", replace(task, name="digits"))
    monkeypatch.setattr("sys.argv", ["make_weights", "digits", "--output", str(tmp_path / "out")])
    make_weights.main()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"digits.json", "digits.safetensors"}
