from dataclasses import replace

import pytest

from releq_env.errors import ReLeQError
from releq_env.quantization import QUANTIZERS
from releq_env.tasks import TASKS, get_task


def test_names() -> None:
    assert list(TASKS) == ["digits", "mnist", "fashion-mnist", "cifar10", "svhn"]
    assert all(task.name == name for name, task in TASKS.items())


def test_a_task_has_a_learning_rate_for_every_quantizer(task_name: str) -> None:
    assert set(TASKS[task_name].retraining.learning_rates) == set(QUANTIZERS)


def test_by_name_and_as_it_is() -> None:
    assert get_task("digits") is TASKS["digits"]
    own = replace(TASKS["digits"], name="own")
    assert get_task(own) is own


@pytest.mark.parametrize("task", ["imagenet", "Digits", "", None, 3, ["digits"]])
def test_unknown_task_is_named(task: object) -> None:
    with pytest.raises(ReLeQError, match="unknown task .*digits, mnist, fashion-mnist, cifar10, svhn") as raised:
        get_task(task)  # type: ignore[arg-type]
    assert repr(task) in str(raised.value)
