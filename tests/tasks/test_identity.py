"""Weights belong to one network, one data set and one recipe."""

import dataclasses
from typing import Any

import pytest

from releq_env.tasks import TASKS, load_pretrained
from releq_env.tasks.task import Task


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
