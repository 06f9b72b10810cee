"""What is kept of every look at test data."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from releq_env import FinalRecipe, Problem, ReLeQError, finalize
from releq_env.finalizing import held_out
from releq_env.finalizing.folder import FinalFolder
from releq_env.finalizing.held_out import Network, read_test
from releq_env.tasks import Examples, RetrainingRecipe
from tests.finalizing.small import small_task

ROW = {"task": "small", "role": "quantized", "quantizer": "lsq", "bitwidths": "2 3", "seed": "0"}
OLD_COLUMNS = "time,task,role,quantizer,bitwidths,seed,sha256"


class Right(nn.Module):
    """Says what the first number of an input is; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.one_hot(inputs.flatten(1)[:, 0].round().long(), 10).float()


class Killed(BaseException):
    pass


def data(right: int, label: str) -> held_out.TestData:
    """Return ten examples, of which so many are easy."""
    inputs = torch.zeros(10, 1, 8, 8)
    inputs[right:] = 16.0  # which the task takes for 1
    return held_out.TestData(lambda: Examples(inputs, torch.zeros(10, dtype=torch.long)), "Data", lambda: label)


def networks(made: Iterable[nn.Module]) -> list[Network]:
    return [Network(lambda each=each: each, ROW | {"sha256": f"hash {n}"}) for n, each in enumerate(made)]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[float]]:
    task = small_task()
    return lambda test, *made: read_test(test, task, networks(made), FinalFolder(tmp_path))


def listed(folder: Path) -> list[tuple[str, str]]:
    with (folder / "test_reads.csv").open() as file:
        return [(row["data"], row["sha256"]) for row in csv.DictReader(file)]


def test_other_test_data_are_another_reading_and_the_first_one_stays(
    read: Callable[..., list[float]], tmp_path: Path
) -> None:
    network = Right()
    assert read(data(7, "first"), network) == [0.7]
    assert read(data(4, "second"), network) == [0.4]
    assert listed(tmp_path) == [("Data first", "hash 0"), ("Data second", "hash 0")]
    calls = network.calls
    assert [read(data(7, "first"), network), read(data(4, "second"), network)] == [[0.7], [0.4]]
    assert network.calls == calls
    assert json.loads((tmp_path / "test.json").read_text()) == {
        "accuracy": {"Data first": {"hash 0": 0.7}, "Data second": {"hash 0": 0.4}}
    }


def test_a_network_that_stands_for_several_seeds_is_measured_once(tmp_path: Path) -> None:
    network = Right()
    same = networks([network]) * 3
    once, elsewhere = Right(), tmp_path / "once"
    elsewhere.mkdir()
    read_test(data(7, "first"), small_task(), networks([once]), FinalFolder(elsewhere))
    assert read_test(data(7, "first"), small_task(), same, FinalFolder(tmp_path)) == [0.7] * 3
    assert network.calls == once.calls
    assert listed(tmp_path) == [("Data first", "hash 0")]


def test_after_a_kill_nothing_is_measured_twice(
    read: Callable[..., list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Right(), Right()
    measured = held_out.accuracy

    def killed(network: nn.Module, *rest: Any) -> float:
        if network is second:
            raise Killed
        return measured(network, *rest)

    monkeypatch.setattr(held_out, "accuracy", killed)
    with pytest.raises(Killed):
        read(data(7, "first"), first, second)
    monkeypatch.setattr(held_out, "accuracy", measured)
    calls = first.calls
    assert read(data(7, "first"), first, second) == [0.7, 0.7]
    assert first.calls == calls
    assert listed(tmp_path) == [("Data first", "hash 0"), ("Data first", "hash 1")]


def test_what_an_earlier_version_has_read_stays(read: Callable[..., list[float]], tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text('{"data": "Data first", "accuracy": {"hash 0": 0.25}}')
    (tmp_path / "test_reads.csv").write_text(f"{OLD_COLUMNS}\nthen,small,quantized,lsq,2 3,0,hash 0\n")
    network = Right()
    assert read(data(7, "first"), network) == [0.25]
    assert read(data(4, "second"), network) == [0.4]
    assert read(data(7, "first"), network) == [0.25]
    assert listed(tmp_path) == [("", "hash 0"), ("Data second", "hash 0")]
    assert (tmp_path / "test_reads.csv").read_text().splitlines()[1] == "then,small,,quantized,lsq,2 3,0,hash 0"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.json", "[]"),
        ("test.json", "{}"),
        ("test.json", '{"accuracy": {"hash 0": 0.5}}'),
        ("test.json", '{"accuracy": {"Data first": {"hash 0": "good"}}}'),
        ("test_reads.csv", ""),
        ("test_reads.csv", "time,task\nthen,small\n"),
        ("test_reads.csv", f"{OLD_COLUMNS}\nthen,small\n"),
        ("test_reads.csv", f"{OLD_COLUMNS}\nthen,small,quantized,lsq,2 3,0,hash 0,more\n"),
    ],
)
def test_damaged_records_are_refused_in_one_line_and_nothing_is_measured(
    read: Callable[..., list[float]], tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    network = Right()
    with pytest.raises(ReLeQError, match=rf"{name} (is damaged|cannot be read)") as caught:
        read(data(7, "first"), network)
    assert "\n" not in str(caught.value)
    assert network.calls == 0
    assert (tmp_path / name).read_text() == content


def test_finalize_measures_on_the_data_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs = torch.randn(3, 60, 6)
    with torch.no_grad():
        targets = [model(part).argmax(1) for part in inputs]
    recipe = RetrainingRecipe(0)
    parts = list(zip(inputs, targets, strict=True))
    problem = Problem.from_network(model, *parts[:2], retraining=recipe, cache=None, workers=1, precision="fp32")

    def loss(test_data: Any) -> float:
        arguments: dict[str, Any] = {"recipe": FinalRecipe(epochs=1, control_rates=(1e-3,)), "seeds": (0,)}
        arguments |= {"folder": tmp_path / "final", "progress": False}
        return finalize(problem, (4, 4), test_data=test_data, **arguments).control_accuracy

    wrong = (inputs[2], (targets[2] + 1) % 3)
    assert [loss(parts[2]), loss(wrong), loss(parts[2])] == [1.0, 0.0, 1.0]
    assert len(listed(tmp_path / "final")) == 2 * 2
    result = json.loads((tmp_path / "final" / "result.json").read_text())
    assert {result["test_data"]} < {label for label, _ in listed(tmp_path / "final")}
