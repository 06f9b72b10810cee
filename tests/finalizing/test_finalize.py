"""`releq_env.finalize`: what it measures, what it reads, and that nothing is done twice."""

import csv
import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy import stats
from torch import nn

import releq_env
from releq_env import AccuracyTable, FinalRecipe, Problem, ReLeQError, load_packed
from releq_env.export import container, read_about
from releq_env.finalizing import control, estimate, finalize, held_out, subject
from releq_env.finalizing import folder as folder_module
from releq_env.finalizing.result import interval, interval_of_difference
from releq_env.retraining.final import FinalRetraining
from releq_env.retraining.final import checkpoint as final_checkpoint
from releq_env.retraining.final import identity as final_identity
from releq_env.tasks import TASKS, PretrainingRecipe, Task, load_pretrained
from tests.finalizing.small import BITS, RECIPE, Trainings, counted, plain_accuracy, small_task
from tests.tasks.own_networks import Viewed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(autouse=True)
def cache(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights are trained once for all tests; controls are each test's own."""
    monkeypatch.setenv("RELEQ_CACHE", str(shared))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    def call(what: Any = None, bitwidths: Any = BITS, **arguments: Any) -> Any:
        given: dict[str, Any] = {"seeds": (0, 1), "recipe": RECIPE, "controls": tmp_path / "controls"}
        given |= {"folder": tmp_path / "final", "progress": False}
        return finalize(small_task() if what is None else what, bitwidths, **given | arguments)

    return call


def test_the_loss_is_control_minus_quantized_on_test_data(run: Callable[..., Any], tmp_path: Path) -> None:
    task = small_task()
    result = run(task)
    test = task.dataset.load_test()
    original = load_pretrained(task).network
    networks = [load_packed(tmp_path / "final" / f"seed-{seed}.safetensors", original) for seed in (0, 1)]
    assert result.measured_on == "test"
    assert result.accuracies == tuple(plain_accuracy(network, test) for network in networks)
    if result.control == "pre-trained":
        assert result.control_accuracy == plain_accuracy(original, test)
    losses = [100 * (one - other) for one, other in zip(result.control_accuracies, result.accuracies, strict=True)]
    assert np.allclose(result.losses, losses)
    assert result.loss == np.mean(result.losses)
    of_both = np.var(result.accuracies, ddof=1) + np.var(result.control_accuracies, ddof=1)
    assert result.loss_std == pytest.approx(100 * of_both**0.5)


def test_bits_and_bytes(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run()
    weights = (64 * 12, 12 * 10)
    assert result.average_bits == 2.5
    assert math.isclose(result.weighted_bits, (2 * weights[0] + 3 * weights[1]) / sum(weights))
    assert result.size_bytes == weights[0] * 2 // 8 + weights[1] * 3 // 8 + 4 * (12 + 10)
    assert result.full_precision_bytes == 4 * (sum(weights) + 12 + 10)
    assert result.packed_bytes == result.size_bytes + 4 * (12 + 10)
    assert result.packed_bytes <= result.file_bytes <= 1.02 * result.packed_bytes + 4096


def test_the_folder_has_the_network_that_is_best_on_validation(run: Callable[..., Any], tmp_path: Path) -> None:
    task = small_task()
    result = run(task, seeds=(3, 0, 4))
    validation = task.dataset.load()[1]
    original, scores = load_pretrained(task).network, {}
    for seed in (3, 0, 4):
        network = load_packed(tmp_path / "final" / f"seed-{seed}.safetensors", original)
        scores[seed] = plain_accuracy(network, validation)
    assert result.validation_accuracies == tuple(scores.values())
    assert scores[result.best_seed] == max(scores.values())
    assert plain_accuracy(result.network, validation) == scores[result.best_seed]
    assert json.loads((tmp_path / "final" / "assignment.json").read_text()) == {"1": 2, "3": 3}
    about = read_about(tmp_path / "final" / "network.safetensors")
    assert (about.task, about.input_shape) == (None, (1, 8, 8))
    assert not list((tmp_path / "final").glob("*checkpoint*"))


def test_the_result_is_written(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run()
    written = json.loads((tmp_path / "final" / "result.json").read_text())
    assert {"task", "network", "quantizer", "bitwidths", "average_bits", "weighted_bits", "loss_std"} <= written.keys()
    assert written["loss"] == result.loss
    assert written["seeds"] == [0, 1]
    assert FinalRecipe(**written["recipe"]) == RECIPE
    text = str(result)
    assert f"{result.loss:.2f} points of test accuracy" in text
    assert "2.50 a layer" in text
    assert f"{result.size_bytes:,} bytes" in text


def test_test_data_are_read_once_and_every_network_is_listed(run: Callable[..., Any], tmp_path: Path) -> None:
    task = small_task()
    first = run(task)
    assert counted(task).test_reads == 1
    with (tmp_path / "final" / "test_reads.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["role"], row["bitwidths"], row["seed"]) for row in rows] == [
        ("control", "", ""),
        ("quantized", "2 3", "0"),
        ("quantized", "2 3", "1"),
    ]
    again = run(task)
    assert counted(task).test_reads == 1
    assert again == first
    run(task, seeds=(0, 1, 2))
    assert counted(task).test_reads == 2
    with (tmp_path / "final" / "test_reads.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["", "0", "1", "2"]


def test_a_network_is_listed_before_it_is_measured(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, measured = small_task(), held_out.accuracy

    def checking(network: nn.Module, examples: Any, of: Task) -> float:
        assert len((tmp_path / "final" / "test_reads.csv").read_text().splitlines()) >= 2
        raise KeyboardInterrupt

    run(task, test=False)
    monkeypatch.setattr(held_out, "accuracy", checking)
    with pytest.raises(KeyboardInterrupt):
        run(task)
    monkeypatch.setattr(held_out, "accuracy", measured)
    run(task)
    lines = (tmp_path / "final" / "test_reads.csv").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 4  # a network is listed once


def test_without_test_data_are_not_touched(run: Callable[..., Any], tmp_path: Path) -> None:
    task = small_task()
    result = run(task, test=False)
    assert counted(task).test_reads == 0
    assert result.measured_on == "validation"
    assert result.accuracies == result.validation_accuracies
    assert "points of validation accuracy" in str(result)
    assert not (tmp_path / "final" / "test_reads.csv").exists()


def test_nothing_finished_is_done_again(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = Trainings(monkeypatch)
    first = run()
    assert trainings.seeds == [0, 1]
    assert trainings.control_rates == [1e-3, 1e-4] * 2
    assert run() == first
    assert len(trainings.asked) == 6
    run(seeds=(1, 2))
    assert trainings.seeds == [0, 1, 2]
    assert len(trainings.control_rates) == 6  # those of the further seed


def test_one_control_serves_all_quantizers_and_assignments(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(monkeypatch)
    results = [
        run(bitwidths=bits, quantizer=quantizer, folder=tmp_path / f"{quantizer}{bits}", recipe=recipe)
        for bits, quantizer, recipe in (
            ((2, 3), "lsq", RECIPE),
            ((4, 4), "lsq", replace(RECIPE, learning_rate=3e-4, epochs=RECIPE.epochs - 1, warm_start=1)),
            ((4, 4), "wrpn", RECIPE),
        )
    ]
    assert trainings.control_rates == [1e-3, 1e-4] * 2  # of both seeds
    assert len({result.control_accuracies for result in results}) == 1
    run(folder=tmp_path / "longer", recipe=replace(RECIPE, epochs=3))  # the control is retrained equally
    assert trainings.control_rates == [1e-3, 1e-4] * 4
    run(seeds=(0, 2), folder=tmp_path / "more")  # another seed costs only itself
    assert trainings.control_rates == [1e-3, 1e-4] * 5
    run(seeds=(0, 1), folder=tmp_path / "fewer", recipe=replace(RECIPE, control_rates=(1e-4,)))
    assert trainings.control_rates == [1e-3, 1e-4] * 5


def test_the_control_is_the_best_on_validation(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run(recipe=replace(RECIPE, control_rates=(1e-3, 1e-2, 1e38)))
    known = json.loads((tmp_path / "final" / "control.json").read_text())
    candidates = known["candidates"]
    assert list(candidates) == ["pre-trained", "retrained at 0.001", "retrained at 0.01", "retrained at 1e+38"]
    assert candidates["retrained at 1e+38"] is None  # it diverges
    best = max(value for value in candidates.values() if value is not None)
    assert candidates[result.control] == best == np.mean(result.control_validation_accuracies)
    assert result.control == next(name for name, value in candidates.items() if value == best)


def test_a_network_that_is_worse_is_retrained_into_its_own_control(run: Callable[..., Any], tmp_path: Path) -> None:
    task = small_task(pretraining=replace(small_task().pretraining, epochs=1, learning_rate=0.01))
    result = run(task, recipe=replace(RECIPE, epochs=8, distillation=0.0, control_rates=(1e-2,)))
    assert result.control == "retrained at 0.01"
    assert min(result.control_validation_accuracies) > load_pretrained(task).accuracy
    networks = {seed: load_pretrained(task).network for seed in result.seeds}
    (kept,) = (tmp_path / "controls").iterdir()
    for seed, network in networks.items():  # each is retrained with its own seed
        network.load_state_dict(load_file(kept / f"rate-0.01-seed-{seed}.safetensors"))
    test = task.dataset.load_test()
    assert result.control_accuracies == tuple(plain_accuracy(network, test) for network in networks.values())
    assert result.control_accuracy == np.mean(result.control_accuracies)
    known = json.loads((tmp_path / "final" / "control.json").read_text())
    assert len(set(known["sha256"])) == len(networks)
    rows = list(csv.DictReader((tmp_path / "final" / "test_reads.csv").open()))
    assert [row["seed"] for row in rows if row["role"] == "control"] == ["0", "1"]


def test_a_control_that_has_vanished_is_not_taken_for_one_that_diverged(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control.ControlRuns, "pieces", lambda *_: [])  # all seemed to be finished
    with pytest.raises(ReLeQError, match="rate-0.001-seed-0 in .* has vanished or is damaged; start again"):
        run()


def test_controls_are_shown_by_seed(run: Callable[..., Any]) -> None:
    result = replace(run(), control="retrained at 0.001", control_accuracies=(0.75, 0.5))
    assert "full precision     75.00% (seed 0), 50.00% (seed 1); retrained at 0.001\n" in str(result)


def test_the_control_is_best_in_the_mean_over_seeds(run: Callable[..., Any], tmp_path: Path) -> None:
    run()
    (kept,) = (tmp_path / "controls").iterdir()

    def rewrite(name: str, **values: Any) -> None:
        path = kept / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    rewrite("pretrained", validation_accuracy=0.4)
    rewrite("rate-0.001-seed-0", validation_accuracy=0.99)  # a lucky one
    rewrite("rate-0.001-seed-1", validation_accuracy=0.5)
    for seed in (0, 1):
        rewrite(f"rate-0.0001-seed-{seed}", validation_accuracy=0.8)
    result = run()
    assert result.control == "retrained at 0.0001"
    assert result.control_validation_accuracies == (0.8, 0.8)
    rewrite("rate-0.0001-seed-1", diverged="of one seed")
    result = run(test=False)
    assert (result.control, result.losses[0] > result.losses[1]) == ("retrained at 0.001", True)
    known = json.loads((tmp_path / "final" / "control.json").read_text())
    assert known["candidates"]["retrained at 0.0001"] is None


def test_it_diverges_in_one_line(run: Callable[..., Any]) -> None:
    with pytest.raises(ReLeQError, match="small, lsq 2 3, seed 0: retraining has diverged in epoch 1") as caught:
        run(recipe=replace(RECIPE, learning_rate=1e38))
    assert "\n" not in str(caught.value)


@pytest.mark.processes
def test_a_kill_at_any_moment_loses_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    """One child after another is killed as soon as it has written one file more, and the next one goes on."""
    whole = run(folder=tmp_path / "whole", controls=tmp_path / "whole-controls")
    written = tmp_path / "written"
    while not _comes_to_an_end(run, written):
        assert len(written.read_text().split()) < 80
    names = written.read_text().split()
    assert len(names) >= 10
    checkpoints = [name for name in names if "checkpoint" in name]
    assert len(checkpoints) == 2 * 2 + 4 * 2  # epochs of two seeds and their two controls each: none was trained twice
    result = run()
    assert replace(result, folder=whole.folder) == whole
    for name in ("seed-0.safetensors", "seed-1.safetensors", "network.safetensors", "test.json"):
        assert (tmp_path / "final" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _comes_to_an_end(work: Callable[[], Any], written: Path) -> bool:
    """Do work in a child that is killed as soon as it has changed a file; return whether it has changed none."""
    child = os.fork()
    if child == 0:
        try:
            for module in (folder_module, final_checkpoint, container):
                module.replace_file = _killing(module.replace_file, written)  # type: ignore[attr-defined]
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def _killing(write: Callable[[Path, Any], None], written: Path) -> Callable[[Path, Any], None]:
    def writing(path: Path, content: Any) -> None:
        old = path.read_bytes() if path.exists() else None
        write(path, content)
        if old != path.read_bytes() and not path.parent.name.startswith("tmp"):  # of a temporary folder
            with written.open("a") as file:
                file.write(f"{path.name}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return writing


def test_a_network_of_ones_own(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs = torch.randn(3, 60, 6)
    with torch.no_grad():
        targets = [model(part).argmax(1) for part in inputs]
    parts = list(zip(inputs, targets, strict=True))
    arguments: dict[str, Any] = {"retraining": releq_env.tasks.RetrainingRecipe(64, batch_size=20), "workers": 1}
    problem = Problem.from_network(model, parts[0], parts[1], **arguments, cache=None)
    result = run(problem)
    assert result.measured_on == "validation"
    assert result.control_accuracy == 1.0
    with torch.no_grad():
        assert result.network(inputs[0]).shape == (60, 3)
    tested = run(problem, test_data=parts[2])
    assert tested.measured_on == "test"
    assert tested.control_accuracy == 1.0
    with_test = Problem.from_network(model, parts[0], parts[1], test_data=parts[2], **arguments, cache=None)
    assert run(with_test).losses == tested.losses
    with pytest.raises(ReLeQError, match="test_data has inputs of shape"):
        run(problem, test_data=(torch.randn(10, 5), targets[0][:10]))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.norm(self.one(inputs))
        return {"hidden": hidden, "scores": self.two(hidden)}


class OtherOrder(TwoHeads):
    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = super().forward(inputs)
        return {"scores": outputs["scores"], "hidden": outputs["hidden"]}


def two_heads(outputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs["scores"], targets)


def of_two_heads(outputs: dict[str, torch.Tensor], targets: torch.Tensor) -> float:
    return float((outputs["scores"].argmax(1) == targets).float().mean())


def same_scores(outputs: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(outputs["scores"], teacher["scores"])


def test_a_teacher_of_several_outputs_and_a_last_batch_of_one(run: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(61, 6)
    labels = inputs[:, :3].argmax(1)
    problem = Problem.from_network(
        TwoHeads(), (inputs[:41], labels[:41]), (inputs[41:], labels[41:]),
        loss=two_heads, metric=of_two_heads, distillation=same_scores, cache_key="heads", cache=None, workers=1,
        retraining=releq_env.tasks.RetrainingRecipe(0, batch_size=20),
    )  # fmt: skip
    recipe = FinalRecipe(epochs=1, batch_size=20, live_batch_norm=True, control_rates=(1e-3,))
    result = run(problem, (4, 4), seeds=(0,), recipe=recipe, teacher=TwoHeads())
    assert 0.0 <= result.accuracies[0] <= 1.0
    with pytest.raises(ReLeQError, match=r"the teacher of TwoHeads returns \(scores: .*in the same order"):
        run(problem, (4, 2), seeds=(0,), recipe=recipe, teacher=OtherOrder())


def test_a_network_and_a_teacher_that_flatten_by_view(run: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(60, 2, 10, 10)
    labels = inputs[:, 0].mean((1, 2)).gt(0).long()
    problem = Problem.from_network(
        Viewed(), (inputs[:40], labels[:40]), (inputs[40:], labels[40:]), cache=None, workers=1,
        retraining=releq_env.tasks.RetrainingRecipe(0, batch_size=20), pretraining=PretrainingRecipe(1, batch_size=20),
    )  # fmt: skip
    result = run(problem, (4, 4, 4), seeds=(0,), teacher=Viewed())
    hooks = [hook for module in result.network.modules() for hook in module._forward_hooks.values()]
    assert not hooks
    assert result.network(inputs[:3]).shape == (3, 3)


def test_other_test_data_of_a_dataset_are_measured_anew(run: Callable[..., Any]) -> None:
    task = small_task()
    task = replace(task, dataset=replace(task.dataset, cache_key=None))  # which would stand for the content
    first = run(task)
    read = task.dataset.read

    def flipped(root: Path, train: bool, download: bool) -> Any:
        examples = read(root, train, download)
        return examples if train else examples._replace(targets=(examples.targets + 1) % 10)

    changed = replace(task, dataset=replace(task.dataset, read=flipped))
    assert run(changed).accuracies != first.accuracies
    assert run(task).accuracies == first.accuracies


def test_many_layers_have_a_folder_of_their_own() -> None:
    names = [subject._folder_name((4,) * 55 + (last,)) for last in (2, 3)]
    assert names[0] != names[1]
    assert all(len(name) < 255 for name in names)
    assert subject._folder_name((2, 3)) == "2-3"


def test_layers_that_share_a_bitwidth(run: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs = torch.randn(2, 40, 6)
    with torch.no_grad():
        parts = [(part, model(part).argmax(1)) for part in inputs]
    recipe = releq_env.tasks.RetrainingRecipe(0)
    problem = Problem.from_network(model, *parts, groups=[["0", "2"]], retraining=recipe, cache=None, workers=1)
    result = run(problem, bitwidths=(2, 4))
    assert result.bitwidths == (2, 2, 4)
    with pytest.raises(ReLeQError, match="give 2 bitwidths"):
        run(problem, bitwidths=(2, 2, 4))


def test_the_answer_of_a_search(run: Callable[..., Any]) -> None:
    problem = Problem.from_task(small_task(), cache=None, workers=1, bitwidths=[1, 2])
    found = releq_env.search(problem, budget=2, method="random", progress=False)
    assert run(found, bitwidths=None).bitwidths == found.bitwidths


def test_a_table_stands_for_the_network_it_was_measured_of(tmp_path: Path) -> None:
    layers = Problem.from_task("digits", cache=None).layers
    table = AccuracyTable.from_records(
        [[2, 2, 2, 2]], [0.9], full_precision_accuracy=0.98, layers=layers, quantizer="wrpn", about={"task": "digits"}
    )
    recipe = FinalRecipe(epochs=4, control_rates=(1e-3,))
    said = estimate(Problem.from_table(table), (2, 2, 2, 2), seeds=(0,), recipe=recipe)
    assert said.startswith("digits, wrpn 2 2 2 2, 1 seed and 1 control: an epoch takes ")
    assert "8 are to come" in said
    assert not (tmp_path / "runs").exists()
    unknown = AccuracyTable.from_records([[2]], [0.9], full_precision_accuracy=0.98)
    with pytest.raises(ReLeQError, match="is of no built-in task"):
        finalize(Problem.from_table(unknown), (2,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bitwidths": (2,)}, r"the assignment \(2,\) has 1 bitwidths; give 2, one a layer of small"),
        ({"bitwidths": (2, 9)}, "has 9 for 3, which lsq does not support; choose from 1, 2"),
        ({"bitwidths": (1, 1), "quantizer": "wrpn"}, "which wrpn does not support; choose from 2"),
        ({"bitwidths": None}, "which bitwidths are meant for small"),
        ({"bitwidths": 3}, "bitwidths=3 is not accepted"),
        ({"quantizer": "int8"}, "unknown quantizer 'int8'; choose one of"),
        ({"seeds": (0, 0)}, "has one twice"),
        ({"seeds": ()}, "give at least one"),
        ({"seeds": (-1,)}, "a seed=-1 is not accepted"),
        ({"seeds": "0,1"}, "seeds='0,1' is not accepted"),
        ({"recipe": {"epochs": 3}}, "give a releq_env.tasks.final.FinalRecipe"),
        ({"recipe": FinalRecipe(shift=1), "what": "nothing"}, "nothing holds no run"),
        ({"what": 3}, "3 cannot be finalized; give a run folder"),
        ({"what": Problem.from_function(2, [2, 3], lambda bits: 0.9)}, "come from no network"),
        ({"test_data": (torch.ones(1), torch.ones(1))}, "which has its own; leave it out"),
        ({"folder": "/dev/null/x"}, "cannot be written"),
        ({"teacher": "big"}, "teacher='big' is no network"),
        ({"teacher": nn.Linear(3, 10)}, "the teacher fails on an input of small"),
        (
            {"teacher": nn.Sequential(nn.Flatten(), nn.Linear(64, 9))},
            r"the shape \(9,\) an input and the network of small",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_training(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    trainings = Trainings(monkeypatch)
    with pytest.raises(ReLeQError, match=message) as caught:
        run(**arguments)
    assert "\n" not in str(caught.value)
    assert not trainings.asked


def test_arguments_of_a_task_are_refused_beside_a_problem(run: Callable[..., Any]) -> None:
    problem = Problem.from_task(small_task(), cache=None)
    with pytest.raises(ReLeQError, match="precision= was given beside a problem"):
        run(problem, precision="fp32")


def test_missing_data_are_said_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="MNIST data in .* missing or damaged"):
        finalize("mnist", (2, 2, 2, 2), data_root=tmp_path / "empty")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_something_else_is_refused(run: Callable[..., Any]) -> None:
    run(test=False)
    with pytest.raises(ReLeQError, match="was begun with another bitwidths; give another folder"):
        run(bitwidths=(3, 3))
    with pytest.raises(ReLeQError, match="was begun with another recipe"):
        run(recipe=replace(RECIPE, epochs=3))


def test_results_of_another_precision_are_not_handed_back(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(monkeypatch)
    run(precision="bf16")
    with pytest.raises(ReLeQError, match="was begun with another precision; give another folder"):
        run(precision="fp32")
    assert (trainings.seeds, trainings.control_rates) == ([0, 1], [1e-3, 1e-4] * 2)
    run(precision="fp32", folder=tmp_path / "fp32")
    assert trainings.seeds == [0, 1, 0, 1]
    assert trainings.control_rates == [1e-3, 1e-4] * 4  # the control is another one, too
    places = [json.loads((tmp_path / name / "result.json").read_text())["place"] for name in ("final", "fp32")]
    assert [place["precision"] for place in places] == ["bfloat16", "float32"]


def test_the_result_says_where_each_network_is_from(run: Callable[..., Any], tmp_path: Path) -> None:
    """Seeds of several machines make one result."""
    run(seeds=(0,), test=False)
    path = tmp_path / "final" / "seed-0.json"
    row = json.loads(path.read_text())
    row["place"] |= {"torch": "1.0", "instructions": "of another processor"}
    path.write_text(json.dumps(row))
    run(test=False)
    result = json.loads((tmp_path / "final" / "result.json").read_text())
    here = json.loads((tmp_path / "final" / "seed-1.json").read_text())["place"]
    assert result["places"]["seed-0"] == row["place"]
    assert result["places"]["seed-1"] == here != row["place"]
    assert result["place"] == {name: here[name] for name in ("precision", "device", "threads")}


def test_a_folder_of_an_earlier_version_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    run(test=False)
    path = tmp_path / "final" / "config.json"
    config = json.loads(path.read_text())
    del config["precision"], config["device"]
    path.write_text(json.dumps(config))
    with pytest.raises(ReLeQError, match="by an earlier version, which did not write down precision, device; give"):
        run(test=False)


@pytest.mark.filterwarnings("ignore:the weights of small are not kept")
def test_results_of_another_metric_are_not_taken_up(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    half, quarter = (lambda outputs, targets, value=value: value for value in (0.5, 0.25))
    first = run(small_task(metric=half))
    assert first.control_accuracy == 0.5
    assert run(small_task(metric=half)) == first  # goes on in the same process
    with pytest.raises(ReLeQError, match="begun with another task; give another folder, and cache_key= that stands"):
        run(small_task(metric=quarter))
    monkeypatch.setattr(final_identity, "_MARKS", [])  # as in another process
    with pytest.raises(ReLeQError, match="cache_key="):
        run(small_task(metric=half))
    assert run(small_task(metric=half, cache_key="half"), folder=tmp_path / "keyed").control_accuracy == 0.5
    with pytest.raises(ReLeQError, match="another task; give another folder$"):
        run(small_task(metric=quarter, cache_key="quarter"), folder=tmp_path / "keyed")


def test_the_estimate_takes_the_arguments_of_finalize(tmp_path: Path) -> None:
    said = estimate(
        small_task(), BITS, recipe=RECIPE, seeds=(0,), folder=tmp_path / "final", test=False, progress=False
    )
    assert "1 seed and 2 controls" in said


def test_a_file_that_was_damaged_is_refused_or_made_again(run: Callable[..., Any], tmp_path: Path) -> None:
    first = run(test=False)
    (tmp_path / "final" / "seed-0.safetensors").write_bytes(b"damaged")
    assert run(test=False) == first
    (tmp_path / "final" / "seed-0.json").write_text("[")
    with pytest.raises(ReLeQError, match="cannot be read .*; delete it and start again"):
        run(test=False)


@pytest.mark.processes
def test_two_processes_share_the_work(run: Callable[..., Any], tmp_path: Path) -> None:
    whole = run(folder=tmp_path / "whole", controls=tmp_path / "whole-controls", seeds=(0, 1, 2, 3))
    children = []
    for number in range(2):
        if (child := os.fork()) == 0:
            try:
                trained, train = tmp_path / f"trained-{number}", FinalRetraining.train

                def noting(final: FinalRetraining, *asked: Any) -> Any:
                    with trained.open("a") as file:  # noqa: B023  # a process has one number
                        file.write(f"{asked[:3]}\n")
                    return train(final, *asked)  # noqa: B023

                FinalRetraining.train = noting  # type: ignore[method-assign]
                result = run(seeds=(0, 1, 2, 3), recipe=RECIPE)
                os._exit(0 if replace(result, folder=whole.folder) == whole else 2)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    trained = [line for path in tmp_path.glob("trained-*") for line in path.read_text().splitlines()]
    assert len(trained) == len(set(trained)) == 4 + 4 * 2


def test_the_default_folder_is_named_after_the_question(tmp_path: Path) -> None:
    result = finalize(small_task(), BITS, seeds=(0,), recipe=replace(RECIPE, epochs=1), progress=False)
    assert result.folder == Path("runs/final/small-lsq/2-3")
    assert (tmp_path / result.folder / "result.json").exists()
    assert result.loss_interval is None and result.loss_std is None


def test_it_says_what_to_expect(run: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    run(progress=True)
    assert "small, lsq 2 3: an epoch takes" in capfd.readouterr().err.replace("\r", "\n")


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-3))
def test_the_interval_is_students(values: list[float]) -> None:
    found = interval(values)
    assert found is not None
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert np.allclose(found, (expected.low, expected.high))


HUNDREDTHS = st.lists(st.integers(-500, 500).map(lambda number: number / 100), min_size=2, max_size=8)


@given(HUNDREDTHS, HUNDREDTHS)
def test_the_interval_of_a_difference_is_welchs(ones: list[float], others: list[float]) -> None:
    found = interval_of_difference(ones, others)
    assert (found is None) == (len(set(ones)) == len(set(others)) == 1)  # which says nothing of others
    if len(set(ones)) > 1 and len(set(others)) > 1:
        expected = stats.ttest_ind(ones, others, equal_var=False).confidence_interval(0.95)
        assert found == pytest.approx((expected.low, expected.high))
    alike = [ones[0]] * len(others)
    if len(set(others)) == 1:
        return
    assert interval_of_difference(alike, others) == pytest.approx(interval([ones[0] - each for each in others]))


def test_one_value_has_no_interval() -> None:
    assert interval([1.0]) is None
    assert interval_of_difference([1.0], [0.0, 1.0]) is None


def test_it_is_exported_with_its_recipe() -> None:
    assert releq_env.finalize is finalize
    assert "finalize" in releq_env.__all__
    assert releq_env.FinalRecipe is FinalRecipe
    assert "digits" in TASKS
