"""Weights belong to one network, one data set and one recipe."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.tasks import TASKS, load_pretrained
from releq_env.tasks.networks import DigitsNet
from releq_env.tasks.task import Task, top1_accuracy
from tests.conftest import shipped
from tests.fakes import RandomImages, random_dataset


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks that were pre-trained."""
    tasks: list[Task] = []

    def pretrain(task: Task, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, float]]:
        tasks.append(task)
        return task.network().eval(), {"validation_accuracy": 0.5}

    monkeypatch.setattr("releq_env.tasks.pretraining.pretrain", pretrain)
    return tasks


def test_shipped_weights_are_used_for_what_they_were_trained_on(trained: list[Task]) -> None:
    load_pretrained(TASKS["digits"])
    assert not trained


@pytest.mark.parametrize("change", ["recipe", "data", "network"])
def test_a_changed_task_gets_weights_of_its_own(change: str, trained: list[Task]) -> None:
    digits = TASKS["digits"]
    changed = {
        "recipe": dataclasses.replace(digits, pretraining=dataclasses.replace(digits.pretraining, epochs=1)),
        "data": dataclasses.replace(digits, dataset=dataclasses.replace(digits.dataset, validation_images=400)),
        "network": dataclasses.replace(
            TASKS["mnist"], name="digits", dataset=TASKS["mnist"].dataset, pretraining=digits.pretraining
        ),
    }[change]
    assert load_pretrained(changed).accuracy == 0.5
    assert load_pretrained(changed).accuracy == 0.5
    assert trained == [changed]  # once


def own(**changes: Any) -> Task:
    """A task of random images, none of whose weights are shipped."""
    return dataclasses.replace(TASKS["digits"], **({"name": "own", "dataset": random_dataset()} | changes))


class Shifted(RandomImages):
    """Other images than `RandomImages`."""

    def __call__(self, root: Path, train: bool, download: bool) -> Any:
        data = super().__call__(root, train, download)
        return data._replace(inputs=data.inputs.roll(1, dims=3))


def network(kind: str) -> Callable[[], nn.Module]:
    """A network of one class name, one text and one set of parameter names that computes something of its own."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.one(images.flatten(1))
            hidden = torch.tanh(hidden) if kind == "tanh" else torch.relu(hidden)
            hidden = hidden.detach() if kind == "without a gradient" else hidden
            return self.two(F.dropout(hidden, 0.5, self.training and kind == "dropout"))

    return Net


def test_same_names_and_other_data(trained: list[Task]) -> None:
    first = own()
    second = own(dataset=dataclasses.replace(first.dataset, read=Shifted()))
    for task in (first, second, first, second):
        load_pretrained(task)
    assert trained == [first, second]


@pytest.mark.parametrize("kind", ["tanh", "dropout", "without a gradient"])
def test_same_names_and_another_network(kind: str, trained: list[Task]) -> None:
    first, second = own(network=network("relu")), own(network=network(kind))
    assert first.network_name == second.network_name
    for task in (first, second, first, second):
        load_pretrained(task)
    assert trained == [first, second]


def test_shipped_weights_are_not_served_to_a_network_of_the_same_name(trained: list[Task]) -> None:
    class Other(DigitsNet):
        def forward(self, images: Tensor) -> Tensor:
            return -super().forward(images)

    Other.__module__, Other.__qualname__ = DigitsNet.__module__, DigitsNet.__qualname__
    task = dataclasses.replace(TASKS["digits"], network=Other)
    assert task.network_name == TASKS["digits"].network_name
    assert load_pretrained(task).accuracy == 0.5
    assert trained == [task]


def test_built_in_tasks_are_told_without_data(task_name: str, trained: list[Task]) -> None:
    task = TASKS[task_name]
    assert task.identity() is not None
    assert load_pretrained(task).identity
    assert trained == ([] if shipped(task_name) else [task])


def test_what_a_network_computes_tells_it_apart() -> None:
    pretrained = load_pretrained(TASKS["digits"])
    state = pretrained.network.state_dict()

    class Reversed(DigitsNet):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flip(3))

    other = Reversed()
    other.load_state_dict(state)
    changed = dataclasses.replace(pretrained, network=other.eval())
    assert changed.identity["computes"] != pretrained.identity["computes"]
    assert load_pretrained(TASKS["digits"]).identity == pretrained.identity


def test_a_partial_network_is_the_same_in_every_process(python: Callable[..., str]) -> None:
    code = """
from dataclasses import replace
from functools import partial
from torch import nn
from releq_env.tasks import TASKS, load_pretrained
from tests.fakes import random_dataset

class Net(nn.Sequential):
    def __init__(self, width, activation):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.activation = activation

    def extra_repr(self):
        return repr(self.activation)

recipe = replace(TASKS["digits"].pretraining, epochs=1)
task = replace(TASKS["digits"], name="own", network=partial(Net, 8, activation=lambda x: x), dataset=random_dataset(),
               pretraining=recipe)
print(task.network_name, load_pretrained(task).identity)
"""
    assert python(code) == python(code)
    assert len(list((Path(os.environ["RELEQ_CACHE"]) / "weights").glob("*.json"))) == 1


# Losses and metrics


def my_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(2.0 * outputs, targets)


def my_metric(outputs: Tensor, targets: Tensor) -> float:
    return top1_accuracy(outputs, targets)


@pytest.mark.parametrize("changes", [{"loss": my_loss}, {"metric": my_metric}, {"loss": partial(my_loss)}])
def test_what_cannot_be_told_apart_is_kept_in_memory_only(
    changes: dict[str, Any], trained: list[Task], tmp_path: Path
) -> None:
    task = own(**changes)
    assert task.identity() is None
    with pytest.warns(UserWarning, match="weights of own are not kept on disk.*cache_key="):
        first = load_pretrained(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_pretrained(task) is first
    assert trained == [task]
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:the weights of own are not kept")
def test_what_is_kept_in_memory_belongs_to_its_data(trained: list[Task]) -> None:
    task = own(loss=my_loss)
    here, there = (load_pretrained(task, root) for root in ("here", "there"))
    assert load_pretrained(task, "here") is here is not there
    assert load_pretrained(task, "there") is there
    assert trained == [task, task]


def test_a_cache_key_stands_for_a_loss(trained: list[Task]) -> None:
    first, second = (own(loss=my_loss, cache_key=key) for key in ("doubled", "doubled, mended"))
    for task in (first, second, first, second):
        load_pretrained(task)
    assert trained == [first, second]


def test_torchs_losses_tell_themselves_apart(trained: list[Task]) -> None:
    tasks = [own(loss=loss) for loss in (F.cross_entropy, F.multi_margin_loss)]
    tasks += [own(loss=partial(F.cross_entropy, label_smoothing=smoothing)) for smoothing in (0.1, 0.2)]
    for task in (*tasks, *tasks):
        load_pretrained(task)
    assert trained == tasks
    assert own(loss=partial(F.cross_entropy, weight=torch.ones(10))).identity() is None
    digits = dataclasses.replace(TASKS["digits"], loss=F.multi_margin_loss)
    assert load_pretrained(digits).accuracy == 0.5  # the shipped ones were trained with another
