import json
import math
from pathlib import Path

import pytest

from benchmarks import arithmetic, lookups, machine, memory, peers, published, speed, throughput
from benchmarks.measuring import NETWORKS, Options
from benchmarks.stand_ins import random_task
from releq_env.tasks.pretrained import SHIPPED


def test_a_run_prints_the_table_and_writes_every_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, few in (("_LOOKUPS", 20), ("_STEPS", 20), ("_VECTOR_STEPS", 4)):
        monkeypatch.setattr(lookups, name, few)
    output = tmp_path / "new" / "speed.json"
    speed.main(["--rounds", "2", "--rows", "g", "--output", str(output)])
    written = json.loads(output.read_text())
    assert set(written["repetitions"]) == {"g/file", "g/memory", "g/env", "g/env as made", "g/vector"}
    assert all(len(values) == 2 for values in written["repetitions"].values())
    assert {"processor", "cores", "versions", "threads", "revision"} <= set(written["machine"])
    assert written["command"].startswith("python -m benchmarks.speed --rounds 2 ")
    assert "| g " in capsys.readouterr().out


def test_the_published_way_runs() -> None:
    accuracy, seconds = published.evaluate(None, str(SHIPPED / "mnist.safetensors"), 130)
    assert 0.0 <= accuracy <= 1.0
    assert seconds > 0.0


@pytest.mark.parametrize("peer", peers.PEERS)
@pytest.mark.parametrize("setting", ["fp32", "tuned"])
def test_a_peer_runs(peer: str, setting: str) -> None:
    pytest.importorskip(peer)
    accuracy, seconds = peers.evaluate(peer, setting, 128, random_data=True)
    assert 0.0 <= accuracy <= 1.0
    assert seconds > 0.0


def test_a_step_and_a_matrix_product_are_timed() -> None:
    assert math.isfinite(arithmetic.step_seconds("simplenet", "auto", False, 4))
    assert math.isfinite(arithmetic.retraining_rate("simplenet", "fp32", 4))
    assert arithmetic.gemm_rate("fp32", 0.01) > 0.0


def test_operations_of_lenet() -> None:
    first, rest = 20 * 24 * 24 * 25, 50 * 8 * 8 * 500 + 800 * 500 + 500 * 10
    assert arithmetic.flops_per_image("lenet") == 2 * (2 * first + 3 * rest)


def test_one_thread_remembers_nothing() -> None:
    first, second = (throughput.one_thread("simplenet", 64, True, [(2, 2, 2, 2, 2)]) for _ in range(2))
    assert second > first / 100


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_is_read() -> None:
    own = memory.rollup("self")
    assert own["Rss"] >= own["Pss"] > own["Private_Clean"]


@pytest.mark.parametrize("network", NETWORKS)
def test_stand_ins_have_the_right_shape(network: str) -> None:
    task, pretrained = random_task(network, training=20, validation=10)
    training, validation = task.dataset.load()
    assert training.images.shape == (20, *task.dataset.input_shape)
    assert len(validation.labels) == 10
    assert len(pretrained.layers) == {"lenet": 4, "simplenet": 5, "svhn8": 8}[network]


def test_the_machine_is_described_without_its_paths() -> None:
    text = json.dumps(machine.describe())
    assert str(machine.ROOT) not in text


@pytest.mark.slow
def test_every_row_runs(tmp_path: Path) -> None:
    output = tmp_path / "speed.json"
    arguments = "--rounds 1 --images 128 --networks lenet simplenet --random-data --output"
    speed.main([*arguments.split(), str(output)])
    names = set(json.loads(output.read_text())["repetitions"])
    assert {name[0] for name in names} >= set("abdefgm")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    options = Options(images=1)
    with peers.libraries(options) as measure:
        assert measure(0) == {}
    assert "pip install" in options.notes["c/brevitas"]
