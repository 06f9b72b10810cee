"""Costs out of a file: what is read, what is refused, and that it is taken wherever a cost is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import releq_env
from releq_env.cost import COSTS, cost_model
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from tests.fakes import smooth_accuracy

LAYERS = tuple(
    LayerInfo(name, n=4, c=2, k=0, weights=8 * size, macs=8 * size, std=0.1)
    for name, size in (("first", 1), ("b.c", 5))
)
CHOICES = (2, 4, 8)


def file(path: Path, rows: dict[tuple[str, int], float]) -> str:
    lines = [f"{layer},{bits},{cost!r}" for (layer, bits), cost in rows.items()]
    path.write_text("\n".join(["layer,bits,cost", *lines]) + "\n")
    return f"csv:{path}"


@pytest.fixture
def measured(tmp_path: Path) -> str:
    return file(
        tmp_path / "costs.csv", {(layer.name, bits): bits * layer.weights for layer in LAYERS for bits in CHOICES}
    )


def problem(cost: str) -> Problem:
    return Problem.from_function(2, CHOICES, smooth_accuracy, layers=LAYERS, cost=cost)


@given(costs=st.lists(st.floats(0.5, 1e6), min_size=6, max_size=6), picks=st.tuples(*[st.sampled_from(CHOICES)] * 2))
def test_an_assignment_costs_the_sum_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory, costs: list[float], picks: tuple[int, int]
) -> None:
    keys = [(layer.name, bits) for layer in LAYERS for bits in CHOICES]
    table = dict(zip(keys, costs, strict=True))
    made = problem(file(tmp_path_factory.mktemp("costs") / "costs.csv", table))
    dearest = sum(max(table[layer.name, bits] for bits in CHOICES) for layer in LAYERS)
    expected = sum(table[layer.name, bits] for layer, bits in zip(LAYERS, picks, strict=True)) / dearest
    assert made.state_of_quantization(picks) == pytest.approx(expected)


def test_the_same_numbers_are_the_same_cost(measured: str) -> None:
    theirs, ours = problem(measured), problem("weighted_bits")
    for bits in ((2, 2), (2, 8), (8, 4)):
        assert theirs.state_of_quantization(bits) == ours.state_of_quantization(bits)


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_bytes('\ufeffbits,unit,layer,cost\r\n2,ms,"first",1.5\r\n 4 ,ms, first ,2e0\r\n'.encode())
    model = cost_model(f"csv:{path}")
    assert (model(LAYERS[0], 2), model(LAYERS[0], 4)) == (1.5, 2.0)


def test_everywhere_a_cost_is_named(measured: str) -> None:
    made = problem("mean_bits").replace(cost=measured, max_cost=0.5)
    env = gym.make("releq_env:ReLeQ-v0", problem=made)
    env.reset()
    *_, info = env.step(0)
    assert info["state_of_quantization"] == pytest.approx((2 * 8 + 8 * 40) / (8 * 48))
    assert releq_env.WithinMask(env).action_masks().any()


def test_a_task_takes_it_by_name(tmp_path: Path) -> None:
    names = ("conv1", "conv2", "fc1", "fc2")
    cost = file(tmp_path / "c.csv", {(name, bits): bits + 1.0 for name in names for bits in range(1, 9)})
    env = gym.make("releq_env:ReLeQ-Digits-v0", cost=cost, cache=None)
    assert env.unwrapped.problem.state_of_quantization((1, 1, 1, 1)) == pytest.approx(2 / 9)


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    names = ("conv1", "conv2", "fc1", "fc2")
    cost = file(tmp_path / "c.csv", {(name, bits): bits**2 for name in names for bits in range(1, 9)})
    command = [sys.executable, "-m", "agents.train", "--algo", "random", "--env", "releq_env:ReLeQ-Digits-v0"]
    command += ["--budget", "2", "--env-kwargs", f"cost={cost}", "retrain_images=0", "workers=1", "parallel=processes"]
    command += ["--log-dir", str(tmp_path / "run"), "--seed", "0"]
    environment = os.environ | {"RELEQ_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert cost in json.dumps(config)
    (tmp_path / "c.csv").unlink()
    command = [sys.executable, "-m", "agents.train", "--resume", str(tmp_path / "run")]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert refused.returncode == 1
    assert "cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column 'layer'; its first line has to name layer, bits, cost"),
        ("layer,bits\nfirst,2\n", "has no column 'cost'"),
        ("layer,bits,cost\n", "has no rows"),
        ("layer,bits,cost\nfirst,2,-1\n", "line 2: cost='-1' is not accepted; give a number from 0"),
        ("layer,bits,cost\nfirst,2,nan\n", "line 2: cost='nan' is not accepted"),
        ("layer,bits,cost\nfirst,2,inf\n", "line 2: cost='inf' is not accepted"),
        ("layer,bits,cost\nfirst,2,fast\n", "line 2: cost='fast' is not accepted"),
        ("layer,bits,cost\nfirst,2\n", "line 2: cost='' is not accepted"),
        ("layer,bits,cost\nfirst,two,1\n", "line 2: bits='two' is no bitwidth; give a whole number from 1 to 32"),
        ("layer,bits,cost\nfirst,0,1\n", "line 2: bits='0' is no bitwidth"),
        ("layer,bits,cost\nfirst,2.0,1\n", "line 2: bits='2.0' is no bitwidth"),
        ("layer,bits,cost\n,2,1\n", "line 2 names no layer"),
        ("layer,bits,cost\nfirst,2,1\nfirst,2,1\n", "line 3: first at 2 bits is there a second time; keep one"),
        ('layer,bits,cost\n"first,2,1\n', "is no CSV file"),
        ("layer,bits,cost\nother,2,1\n", "has no cost of the layer 'first', only of ['other']; name layers as"),
        ("layer,bits,cost\nfirst,2,1\nfirst,8,1\n", "has no cost of first at 4 bits, only at 2, 8; add it"),
    ],
)
def test_what_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(content)
    with pytest.raises(ReLeQError) as raised:
        problem(f"csv:{path}")
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv", "", "\0"):
        with pytest.raises(ReLeQError, match="cannot be read"):
            problem(f"csv:{path}")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReLeQError, match="cannot be read"):
        problem(f"csv:{tmp_path / 'bytes'}")


@pytest.mark.parametrize("cost", ["watts", "CSV:x", 3, None])
def test_other_names_are_refused_with_what_is_accepted(cost: object) -> None:
    with pytest.raises(ReLeQError, match="unknown cost .* choose one of: mean_bits.*size.*, csv:PATH"):
        cost_model(cost)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", COSTS)
def test_every_name_gives_its_model(cost: str) -> None:
    assert cost_model(cost) is COSTS[cost]
