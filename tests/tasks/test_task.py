from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.tasks import TASKS, PretrainingRecipe, RetrainingRecipe, get_task
from releq_env.tasks.task import top1_accuracy


def test_names() -> None:
    assert list(TASKS) == ["digits", "mnist", "fashion-mnist", "cifar10", "svhn"]
    assert all(task.name == name for name, task in TASKS.items())


def test_by_name_and_as_it_is() -> None:
    assert get_task("digits") is TASKS["digits"]
    own = replace(TASKS["digits"], name="own")
    assert get_task(own) is own


@pytest.mark.parametrize("task", ["imagenet", "Digits", "", None, 3, ["digits"]])
def test_unknown_task_is_named(task: object) -> None:
    with pytest.raises(ReLeQError, match="unknown task .*digits, mnist, fashion-mnist, cifar10, svhn") as raised:
        get_task(task)  # type: ignore[arg-type]
    assert repr(task) in str(raised.value)


def test_top1_accuracy() -> None:
    outputs = torch.tensor([[0.1, 0.9], [3.0, -1.0], [0.2, 0.1]])
    assert top1_accuracy(outputs, torch.tensor([1, 1, 0])) == 2 / 3
    outputs[0, 0] = torch.nan  # of which argmax names a class
    assert top1_accuracy(outputs, torch.zeros(3, dtype=torch.int64)) <= 2 / 3
    assert top1_accuracy(torch.full((3, 2), torch.nan), torch.zeros(3, dtype=torch.int64)) == 0.0


def test_untrained_networks_follow_their_seed_and_leave_the_global_generator_alone(task_name: str) -> None:
    task = TASKS[task_name]
    state = torch.get_rng_state()
    first, second, other = (next(task.untrained(seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PretrainingRecipe(epochs=-1), "epochs=-1 is not accepted; give a whole number from 0"),
        (lambda: PretrainingRecipe(epochs=1, batch_size=0), "batch_size=0"),
        (lambda: PretrainingRecipe(epochs=1, optimizer="adam"), "unknown optimizer 'adam'; choose one of: sgd, adamw"),
        (lambda: RetrainingRecipe(images=10, batch_size=0), "batch_size=0"),
        (lambda: RetrainingRecipe(images=1.5), "images=1.5"),
        (lambda: replace(TASKS["digits"], name="../digits"), "'../digits' is not a file's name"),
    ],
    ids=range(6),
)
def test_what_cannot_be_trained_is_refused_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ReLeQError, match=message):
        make()
