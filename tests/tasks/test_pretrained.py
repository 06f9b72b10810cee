import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.tasks import TASKS, load_pretrained
from releq_env.tasks.pretrained import SHIPPED, read, write
from releq_env.tasks.pretraining import score
from tests.conftest import shipped

MEND = "reinstall releq_env"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A copy of the shipped Digits weights and their record."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(SHIPPED / f"digits{suffix}", tmp_path)
    return tmp_path / "digits.json"


def error_of(record: Path, task: str = "digits") -> str:
    with pytest.raises(ReLeQError) as raised:
        read(TASKS[task], record, MEND)
    message = str(raised.value)
    assert "\n" not in message
    assert str(record.with_suffix(".safetensors")) in message
    assert message.endswith(MEND)
    return message


def edit(record: Path, change: Callable[[dict[str, Any]], object]) -> None:
    known = json.loads(record.read_text())
    change(known)
    record.write_text(json.dumps(known))


def test_an_intact_copy(record: Path) -> None:
    pretrained = read(TASKS["digits"], record, MEND)
    assert [layer.name for layer in pretrained.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert not pretrained.network.training
    assert pretrained.accuracy == json.loads(record.read_text())["validation_accuracy"]


def test_one_flipped_bit(record: Path) -> None:
    path = record.with_suffix(".safetensors")
    payload = bytearray(path.read_bytes())
    payload[-100] ^= 1
    path.write_bytes(payload)
    assert "damaged (SHA-256" in error_of(record)


def test_truncated_weights(record: Path) -> None:
    path = record.with_suffix(".safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in error_of(record)


def test_missing_weights(record: Path) -> None:
    record.with_suffix(".safetensors").unlink()
    assert "cannot be read" in error_of(record)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00"], ids=repr)
def test_record_that_is_not_one(record: Path, content: bytes) -> None:
    record.write_bytes(content)
    assert "cannot be read" in error_of(record)


@pytest.mark.parametrize("key", ["sha256", "validation_accuracy"])
def test_record_that_lacks_an_entry(record: Path, key: str) -> None:
    edit(record, lambda known: known.pop(key))
    assert key in error_of(record)


def test_weights_of_another_network(record: Path) -> None:
    error_of(record, task="svhn")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = TASKS["digits"].network()
    write(TASKS["digits"], tmp_path / "own.json", network, {"validation_accuracy": 0.25})
    pretrained = read(TASKS["digits"], tmp_path / "own.json", MEND)
    assert pretrained.accuracy == 0.25
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in pretrained.network.state_dict().items())


def test_a_network_loaded_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        pretrained = load_pretrained(TASKS["digits"])
    assert not any(tensor.is_inference() for tensor in pretrained.network.state_dict().values())
    assert all(parameter.requires_grad for parameter in pretrained.network.parameters())


def test_loading_does_not_advance_the_global_generator() -> None:
    state = torch.get_rng_state()
    load_pretrained(TASKS["digits"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("accuracy", [0.0, -0.5, 1.5, float("nan")])
def test_an_accuracy_that_nothing_can_be_compared_to(record: Path, accuracy: float) -> None:
    edit(record, lambda known: known.update(validation_accuracy=accuracy))
    with pytest.raises(ReLeQError, match=f"digits has a validation accuracy of {accuracy}, to which nothing") as raised:
        read(TASKS["digits"], record, MEND)
    assert "\n" not in str(raised.value)


def test_every_shipped_weight_has_a_record_and_vice_versa() -> None:
    names = {path.stem for path in SHIPPED.glob("*.json")}
    assert names == {path.stem for path in SHIPPED.glob("*.safetensors")}
    assert "digits" in names
    assert names <= set(TASKS)


def test_shipped_record_is_of_the_tasks_recipe(task_name: str) -> None:
    if not shipped(task_name):
        pytest.skip(f"no weights of {task_name} are shipped")
    from dataclasses import asdict

    known = json.loads((SHIPPED / f"{task_name}.json").read_text())
    assert known["recipe"] == asdict(TASKS[task_name].pretraining)
    assert known["network"] == TASKS[task_name].network_name
    assert load_pretrained(TASKS[task_name]).accuracy > 0.7


def test_shipped_digits_are_as_accurate_as_recorded() -> None:
    task = TASKS["digits"]
    pretrained = load_pretrained(task)
    validation = score(pretrained.network, task.dataset.load()[1], task)
    # One image may lie on the decision boundary of another processor's rounding.
    assert validation == pytest.approx(pretrained.accuracy, abs=1.5 / 500)
    known = json.loads((SHIPPED / "digits.json").read_text())
    test = score(pretrained.network, task.dataset.load_test(), task)
    assert test == pytest.approx(known["test_accuracy"], abs=1.5 / 497)


@pytest.mark.slow
def test_shipped_weights_are_as_accurate_as_recorded(task_name: str, real_data: str) -> None:
    task = TASKS[task_name]
    if not shipped(task_name):
        pytest.skip(f"no weights of {task_name} are shipped")
    try:
        _, validation = task.dataset.load(real_data)
    except ReLeQError as error:
        if "downloading it failed" in str(error):
            pytest.skip(f"the data of {task_name} are not in RELEQ_DATA")
        raise
    pretrained = load_pretrained(task)
    assert score(pretrained.network, validation, task) == pytest.approx(pretrained.accuracy, abs=5e-4)
