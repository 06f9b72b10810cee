import json
import math
from pathlib import Path

import pytest

from benchmarks import hot_path
from benchmarks.common import machine
from benchmarks.common.stand_ins import NETWORKS, random_task
from benchmarks.speed import __main__ as speed
from benchmarks.speed import ablation, libraries, lookups, memory, published, share_of_peak, steps, workers
from benchmarks.speed.measuring import Options
from releq_env.tasks.pretrained import SHIPPED


def test_a_run_prints_the_table_and_writes_every_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, few in (("LOOKUPS", 20), ("STEPS", 20), ("VECTOR_STEPS", 4)):
        monkeypatch.setattr(lookups, name, few)
    output = tmp_path / "new" / "speed.json"
    speed.main(["--rounds", "2", "--rows", "g", "--output", str(output)])
    written = json.loads(output.read_text())
    found = {(each["row"], each["side"], each["unit"]): each["values"] for each in written["repetitions"]}
    rates = {("g", side, "steps/s") for side in ("env", "env as made", "vector")}
    assert set(found) == {("g", "file", "s"), ("g", "memory", "s"), *rates}
    assert all(len(values) == 2 for values in found.values())
    assert {"processor", "cores", "versions", "threads", "revision"} <= set(written["machine"])
    assert written["command"].startswith("python -m benchmarks.speed --rounds 2 ")
    assert "| g " in capsys.readouterr().out


def test_the_published_way_runs() -> None:
    accuracy, seconds = published.evaluate(None, str(SHIPPED / "mnist.safetensors"), 130)
    assert 0.0 <= accuracy <= 1.0
    assert seconds > 0.0


@pytest.mark.parametrize("peer", libraries.PEERS)
@pytest.mark.parametrize("setting", libraries.SETTINGS)
def test_a_peer_runs(peer: str, setting: str) -> None:
    pytest.importorskip(peer)
    accuracy, seconds = libraries.evaluate(peer, setting, 128, random_data=True)
    assert 0.0 <= accuracy <= 1.0
    assert seconds > 0.0


def test_a_step_and_a_matrix_product_are_timed() -> None:
    assert math.isfinite(steps.step_seconds("simplenet", "auto", False, 4))
    assert math.isfinite(share_of_peak.retraining_rate("simplenet", "fp32", 4))
    assert share_of_peak.gemm_rate("fp32", 0.01) > 0.0


def test_operations_of_lenet() -> None:
    first, rest = 20 * 24 * 24 * 25, 50 * 8 * 8 * 500 + 800 * 500 + 500 * 10
    assert share_of_peak.flops_per_image("lenet") == 2 * (2 * first + 3 * rest)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_part_is_taken_out_of_the_engine_and_comes_back(network: str) -> None:
    task, pretrained = random_task(network, training=32, validation=10)
    retraining = hot_path.Profiled(task, pretrained, retrain_images=32)

    def operators() -> dict[str, int]:
        retraining.measure((4,) * len(pretrained.layers))
        return {event.key: event.count for event in retraining.profiled.key_averages()}

    everything = operators()
    for part in ablation.PARTS[network]:
        with ablation.left_out(part):
            assert operators() != everything
        assert operators() == everything


def test_one_thread_remembers_nothing() -> None:
    first, second = (workers.one_thread("simplenet", 64, True, [(2, 2, 2, 2, 2)]) for _ in range(2))
    assert second > first / 100


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_is_read() -> None:
    own = memory.rollup("self")
    assert own["Rss"] >= own["Pss"] > own["Private_Clean"]


@pytest.mark.parametrize("network", NETWORKS)
def test_stand_ins_have_the_right_shape(network: str) -> None:
    task, pretrained = random_task(network, training=20, validation=10)
    training, validation = task.dataset.load()
    assert training.inputs.shape == (20, *task.dataset.input_shape)
    assert len(validation.targets) == 10
    assert len(pretrained.layers) == {"lenet": 4, "simplenet": 5, "svhn8": 8}[network]


def test_the_machine_is_described_without_its_paths() -> None:
    text = json.dumps(machine.describe())
    assert str(machine.ROOT) not in text


@pytest.mark.slow
def test_every_row_runs(tmp_path: Path) -> None:
    output = tmp_path / "speed.json"
    arguments = "--rounds 1 --images 128 --networks lenet simplenet --random-data --output"
    speed.main([*arguments.split(), str(output)])
    rows = {each["row"] for each in json.loads(output.read_text())["repetitions"]}
    assert rows >= set("abdefghm")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    options = Options(images=1)
    with libraries.measuring(options) as measure:
        assert measure(0) == []
    assert [note.about for note in options.notes if "pip install" in note.text] == list(libraries.PEERS)
