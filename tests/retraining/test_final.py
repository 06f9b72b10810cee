"""The long retraining: what it learns, and that a stop changes nothing."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.errors import ReLeQError
from releq_env.export import load_packed, save_packed
from releq_env.quantization import QUANTIZERS, quantizable_layers
from releq_env.retraining.data import channels_last
from releq_env.retraining.final import DivergedError, FinalRetraining
from releq_env.retraining.final import identity as final_identity
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import Pretrained, RetrainingRecipe, Task, load_pretrained
from releq_env.tasks.final import FINAL_RECIPES, FinalRecipe, final_recipe
from releq_env.tasks.task import TASKS, PretrainingRecipe
from tests.fakes import random_dataset

DIGITS = TASKS["digits"]
SHORT = FinalRecipe(epochs=2, batch_size=32)


class Normalised(nn.Sequential):
    """Convolutions with batch normalisation, with and without parameters of its own."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, affine=False), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Flatten(), nn.Linear(16, 10)),
        )


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(DIGITS)


def digits(pretrained: Pretrained, recipe: FinalRecipe = SHORT, **arguments: Any) -> FinalRetraining:
    teacher = arguments.pop("teacher", None)
    return FinalRetraining(ShortRetraining(DIGITS, pretrained, **arguments), recipe, teacher)


def normalised(recipe: FinalRecipe, **changes: Any) -> FinalRetraining:
    """A small network with batch normalisation, not trained, on random images."""
    task = Task("normalised", Normalised, random_dataset(), PretrainingRecipe(0), RetrainingRecipe(0), 0.9)
    task = dataclasses.replace(task, **changes)
    network = task.untrained().eval()
    layers = quantizable_layers(network, task.dataset.input_shape)
    pretrained = Pretrained(network, layers, 0.5, "none", task.dataset.input_shape)
    return FinalRetraining(ShortRetraining(task, pretrained, precision="fp32"), recipe)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StoppedError(Exception):
    pass


def stopping_after(epochs: int) -> Callable[[list[float], bool], None]:
    """Return what raises once so many epochs were trained."""
    new = itertools.count(1)

    def told(row: list[float], is_new: bool) -> None:
        if is_new and next(new) == epochs:
            raise StoppedError

    return told


def test_it_wins_back_what_quantizing_loses(pretrained: Pretrained, tmp_path: Path) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=3))
    unretrained, _ = ShortRetraining(DIGITS, pretrained, retrain_images=0).measure((1, 1, 1, 1))
    trained = final.train((1, 1, 1, 1), 1e-3, 0, tmp_path / "state")
    losses, accuracies, seconds = zip(*trained.history, strict=True)
    assert accuracies[-1] > unretrained + 0.02
    assert losses[-1] < losses[0]
    assert min(seconds) > 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": True, "shift": 1, "average": 0.9},
        {"warm_start": 2, "freeze": 0.5},
        {"distillation": 0.0, "distillation_end": 1.0, "temperature": 2.0},
    ],
    ids=["plain", "augmented", "warm", "distilled"],
)
@pytest.mark.parametrize("bitwidths", [(2, 1, 3, 2), None], ids=["quantized", "full precision"])
def test_a_stop_after_any_epoch_changes_nothing(
    pretrained: Pretrained, tmp_path: Path, bitwidths: tuple[int, ...] | None, changes: dict[str, Any]
) -> None:
    recipe = FinalRecipe(**{"epochs": 2, "batch_size": 100} | changes)
    final = digits(pretrained, recipe)
    whole = final.train(bitwidths, 1e-3, 5, tmp_path / "whole.safetensors")
    for epochs in range(1, final.epochs):
        path = tmp_path / f"{epochs}.safetensors"
        with pytest.raises(StoppedError):
            final.train(bitwidths, 1e-3, 5, path, stopping_after(epochs))
        told: list[bool] = []
        again = digits(pretrained, recipe)
        resumed = again.train(bitwidths, 1e-3, 5, path, lambda row, new, told=told: told.append(new))
        assert told == [False] * epochs + [True] * (final.epochs - epochs)
        assert equal(state(resumed.network), state(whole.network))
        assert [row[:2] for row in resumed.history] == [row[:2] for row in whole.history]


def test_full_precision_is_retrained_as_long_as_warm_start_and_retraining_together(
    pretrained: Pretrained, tmp_path: Path
) -> None:
    warm, plain = (
        digits(pretrained, FinalRecipe(epochs=epochs, warm_start=start, batch_size=100))
        for epochs, start in ((1, 2), (3, 0))
    )
    assert warm.asked(None, 1e-3, 0) == plain.asked(None, 1e-3, 0)
    assert warm.asked((2, 2, 2, 2), 1e-3, 0) != plain.asked((2, 2, 2, 2), 1e-3, 0)
    ends = [final.train(None, 1e-3, 0, tmp_path / str(number)) for number, final in enumerate((warm, plain))]
    assert len(ends[0].history) == len(ends[1].history) == 3
    assert equal(state(ends[0].network), state(ends[1].network))


@pytest.mark.parametrize("live", [False, True])
def test_a_stop_changes_nothing_with_batch_normalisation(tmp_path: Path, live: bool) -> None:
    recipe = FinalRecipe(epochs=3, batch_size=16, live_batch_norm=live, average=0.5)
    whole = normalised(recipe).train((2, 3, 1), 1e-2, 0, tmp_path / "whole")
    with pytest.raises(StoppedError):
        normalised(recipe).train((2, 3, 1), 1e-2, 0, tmp_path / "part", stopping_after(2))
    resumed = normalised(recipe).train((2, 3, 1), 1e-2, 0, tmp_path / "part")
    assert equal(state(resumed.network), state(whole.network))


class PartlyUsed(nn.Module):
    """Has a layer that is not called, and so never a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("bitwidths", [(2,), None], ids=["quantized", "full precision"])
def test_a_stop_changes_nothing_where_a_layer_is_not_called(tmp_path: Path, bitwidths: tuple[int, ...] | None) -> None:
    recipe = FinalRecipe(epochs=3, batch_size=16, average=0.5)
    whole = normalised(recipe, network=PartlyUsed).train(bitwidths, 1e-2, 0, tmp_path / "whole")
    with pytest.raises(StoppedError):
        normalised(recipe, network=PartlyUsed).train(bitwidths, 1e-2, 0, tmp_path / "part", stopping_after(2))
    told: list[bool] = []
    again = normalised(recipe, network=PartlyUsed)
    resumed = again.train(bitwidths, 1e-2, 0, tmp_path / "part", lambda row, new: told.append(new))
    assert told == [False, False, True]
    assert equal(state(resumed.network), state(whole.network))


def test_a_seed_gives_another_network_and_the_same_one_again(pretrained: Pretrained, tmp_path: Path) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1, shift=1))
    made = [state(final.train((2, 2, 2, 2), 1e-3, seed, tmp_path / str(n)).network) for n, seed in enumerate((0, 0, 1))]
    assert equal(made[0], made[1])
    assert not equal(made[0], made[2])


def test_what_torch_is_told_elsewhere_does_not_matter(pretrained: Pretrained, tmp_path: Path) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1, flip=True))
    first = state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "first").network)
    torch.manual_seed(99)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        second = state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "second").network)
    assert equal(first, second)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_can_be_trained_and_packed(pretrained: Pretrained, tmp_path: Path, quantizer: str) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1), quantizer=quantizer, precision="fp32")
    for bits in QUANTIZERS[quantizer].bitwidths[::3]:
        network = final.train((bits,) * 4, 1e-3, 0, tmp_path / f"{bits}").network
        save_packed(network, tmp_path / "packed")
        read = load_packed(tmp_path / "packed", pretrained.network)
        inputs = channels_last(final.engine.load().validation_inputs)
        with torch.no_grad():
            assert torch.equal(network(inputs), read(inputs))


def test_the_network_that_is_kept_computes_what_the_trained_one_does(tmp_path: Path) -> None:
    """One is folded and fused, the other is as the task makes it."""
    final = normalised(FinalRecipe(epochs=2, batch_size=16))
    run = final.run((3, 3, 3), 1e-2, 0)
    before = state(run._plain)
    run.epoch(0)
    run._network.eval()
    inputs = channels_last(final.engine.load().validation_inputs)
    with torch.no_grad():
        torch.testing.assert_close(run._network(inputs), run._plain(inputs), rtol=1e-4, atol=1e-5)
    assert len(list(run._network.modules())) != len(list(run._plain.modules()))  # something was folded
    assert not equal(before, state(run._plain))
    kept = final.train((3, 3, 3), 1e-2, 0, tmp_path / "state").network
    save_packed(kept, tmp_path / "packed")
    read = load_packed(tmp_path / "packed", final.engine.pretrained.network)
    with torch.no_grad():
        assert torch.equal(read(inputs), kept(inputs))


def test_statistics_move_only_where_they_are_live(tmp_path: Path) -> None:
    for live in (False, True):
        final = normalised(FinalRecipe(epochs=1, batch_size=16, live_batch_norm=live))
        _, plain = final.prepared((4, 4, 4))
        before = plain[1].running_mean.clone()  # type: ignore[union-attr,operator]
        after = final.train((4, 4, 4), 1e-3, 0, tmp_path / str(live)).network[1].running_mean  # type: ignore[index]
        assert torch.equal(before, after) != live


def test_quantized_weights_rest_in_the_last_epochs(pretrained: Pretrained, tmp_path: Path) -> None:
    start = state(digits(pretrained).prepared((2, 2, 2, 2))[1])
    end = state(
        digits(pretrained, dataclasses.replace(SHORT, freeze=1.0)).train((2,) * 4, 1e-3, 0, tmp_path / "a").network
    )
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    resting = {f"{layer.name}.parametrizations.weight.original" for layer in pretrained.layers}
    assert resting <= start.keys()
    assert not moved & resting
    assert {f"{layer.name}.bias" for layer in pretrained.layers} <= moved


def test_the_rate_of_step_sizes_is_the_recipes(pretrained: Pretrained, tmp_path: Path) -> None:
    def steps(rate: float | None) -> Tensor:
        final = digits(pretrained, dataclasses.replace(SHORT, epochs=1, step_rate=rate))
        network = final.train((3, 3, 3, 3), 1e-3, 0, tmp_path / str(rate)).network
        return torch.cat([value for name, value in network.named_parameters() if name.endswith("log_step")])

    assert (steps(0.0) == 0.0).all()
    assert torch.equal(steps(None), steps(0.01))
    assert steps(0.1).abs().mean() > steps(0.01).abs().mean()


def test_without_labels_the_teacher_alone_is_learned_from(pretrained: Pretrained, tmp_path: Path) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1, distillation=1.0))
    first = state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "first").network)
    final.engine.adopt(dataclasses.replace(data := final.engine.load(), targets=data.targets.flip(0)))
    assert equal(state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "second").network), first)


def test_another_teacher_gives_another_network(pretrained: Pretrained, tmp_path: Path) -> None:
    other = copy.deepcopy(pretrained.network)
    with torch.no_grad():
        other.get_submodule("fc2").weight.neg_()  # type: ignore[operator,union-attr]
    recipe = dataclasses.replace(SHORT, epochs=1)
    finals = [digits(pretrained, recipe, teacher=teacher) for teacher in (None, other)]
    made = [state(final.train((2,) * 4, 1e-3, 0, tmp_path / str(n)).network) for n, final in enumerate(finals)]
    assert not equal(*made)
    asked = [final.asked((2,) * 4, 1e-3, 0) for final in finals]
    assert asked[0] != asked[1]


def test_a_task_without_soft_loss_is_trained_on_its_loss_alone(tmp_path: Path) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    shares = [normalised(FinalRecipe(epochs=1, batch_size=16, distillation=d), loss=loss) for d in (0.0, 0.7)]
    made = [state(final.train((4, 4, 4), 1e-3, 0, tmp_path / str(n)).network) for n, final in enumerate(shares)]
    assert equal(*made)


def test_the_cosine_and_the_changing_share(pretrained: Pretrained) -> None:
    recipe = FinalRecipe(epochs=2, batch_size=400, distillation=1.0, distillation_end=0.0)
    final = digits(pretrained, recipe)
    run = final.run((2, 2, 2, 2), 1e-2, 0)
    inputs, targets, teacher = next(run._batches(0, final.teacher.kept))
    outputs = final.engine.outputs(run._network, inputs)
    assert final.teacher.soft_loss is not None and teacher is not None
    hard, soft = F.cross_entropy(outputs, targets), final.teacher.soft_loss(outputs, teacher)
    for progress in (0.0, 0.25, 1.0):
        mixed = run._loss(outputs, targets, teacher, progress)
        torch.testing.assert_close(mixed, progress * hard + (1.0 - progress) * soft)
    for progress, share in ((0.0, 1.0), (0.5, 0.5), (2 / 3, 0.25)):
        run._step(progress, False, inputs, targets, teacher)
        group = max(run._optimizer.param_groups, key=lambda group: group["lr"])
        assert math.isclose(group["lr"], 1e-2 * share, rel_tol=1e-9)


def test_inputs_that_are_augmented_are_shown_to_the_teacher_as_they_are(pretrained: Pretrained) -> None:
    for shift, epochs, once in ((0, 2, True), (1, 1, False), (1, 2, True)):
        final = digits(pretrained, dataclasses.replace(SHORT, shift=shift, epochs=epochs), precision="fp32")
        assert (final.teacher.kept is not None) == once  # 9 ways are more than five retrainings of an epoch
        run = final.run((2, 2, 2, 2), 1e-3, 0)
        inputs, _, teacher = next(run._batches(0, final.teacher.kept))
        with torch.no_grad():
            torch.testing.assert_close(teacher, pretrained.network(inputs), rtol=1e-4, atol=1e-4)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


AUGMENTED = FinalRecipe(epochs=5, batch_size=200, shift=1, warm_start=2)


def test_what_the_teacher_returns_is_kept_under_all_that_it_depends_on(pretrained: Pretrained, own_cache: Path) -> None:
    def kept(recipe: FinalRecipe = AUGMENTED, **arguments: Any) -> set[str]:
        before = set(own_cache.glob("*.safetensors"))
        digits(pretrained, recipe, **arguments).teacher.ask(iter)
        return {path.name for path in set(own_cache.glob("*.safetensors")) - before}

    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.network, self.factor = pretrained.network, factor

        def forward(self, inputs: Tensor) -> Tensor:
            return self.factor * self.network(inputs)

    assert len(kept(precision="fp32")) == 1
    others = [
        {"precision": "bf16"},
        {"precision": "fp32", "recipe": dataclasses.replace(AUGMENTED, flip=True, epochs=9)},
        {"precision": "fp32", "teacher": Scaled(1.0)},
        {"precision": "fp32", "teacher": Scaled(2.0)},  # of the same weights
    ]
    assert [len(kept(**each)) for each in others] == [1] * 4
    same = [{}, {"recipe": dataclasses.replace(AUGMENTED, learning_rate=1e-4)}, {"quantizer": "wrpn"}]
    assert [kept(precision="fp32", **each) for each in same] == [set()] * 3


def test_a_stop_changes_nothing_where_the_teacher_is_asked_once(
    pretrained: Pretrained, own_cache: Path, tmp_path: Path
) -> None:
    whole = digits(pretrained, AUGMENTED).train((2, 2, 2, 2), 1e-3, 0, tmp_path / "whole")
    final = digits(pretrained, AUGMENTED)
    with pytest.raises(StoppedError):
        final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "parts", stopping_after(1))  # in the warm start
    for path in own_cache.iterdir():
        path.unlink()
    with pytest.raises(StoppedError):
        digits(pretrained, AUGMENTED).train((2, 2, 2, 2), 1e-3, 0, tmp_path / "parts", stopping_after(4))
    parts = final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "parts")
    assert equal(state(parts.network), state(whole.network))
    assert [row[:2] for row in parts.history] == [row[:2] for row in whole.history]


def test_how_long_asking_takes_is_estimated_until_it_is_known(pretrained: Pretrained, own_cache: Path) -> None:
    final = digits(pretrained, AUGMENTED)
    assert 0.0 < final.teacher.seconds_to_ask() < 60.0
    final.teacher.ask(iter)
    assert digits(pretrained, AUGMENTED).teacher.seconds_to_ask() == 0.0
    assert digits(pretrained, dataclasses.replace(AUGMENTED, distillation=0.0)).teacher.seconds_to_ask() == 0.0


def test_every_epoch_has_every_example_once_in_another_order(pretrained: Pretrained) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, batch_size=100, distillation=0.0), precision="fp32")
    run = final.run((2, 2, 2, 2), 1e-3, 0)

    def sums(epoch: int) -> list[float]:
        return [float(image.double().sum()) for inputs, _, _ in run._batches(epoch, None) for image in inputs]

    assert sums(0) != sums(1)
    assert sorted(sums(0)) == sorted(sums(1)) == sorted(float(x.double().sum()) for x in final.engine.load().inputs)


def test_divergence_is_an_error(pretrained: Pretrained, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"diverged in epoch 1 .*1e\+38; give a lower one"):
        digits(pretrained).train(None, 1e38, 0, tmp_path / "state")


def test_a_state_of_something_else_is_not_taken_up(pretrained: Pretrained, tmp_path: Path) -> None:
    path, told = tmp_path / "state", list[bool]()
    digits(pretrained).train((2, 2, 2, 2), 1e-3, 0, path)
    digits(pretrained).train((2, 2, 2, 1), 1e-3, 0, path, lambda row, new: told.append(new))
    assert told == [True, True]


def test_a_state_of_another_precision_is_not_taken_up(pretrained: Pretrained, tmp_path: Path) -> None:
    path, told = tmp_path / "state", list[bool]()
    recipe = dataclasses.replace(SHORT, epochs=1, batch_size=100)
    digits(pretrained, recipe, precision="bf16").train((2, 2, 2, 2), 1e-3, 0, path)
    digits(pretrained, recipe, precision="fp32").train((2, 2, 2, 2), 1e-3, 0, path, lambda row, new: told.append(new))
    assert told == [True]


def test_what_is_asked_names_the_kind_of_device_but_not_the_processor(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = digits(pretrained)
    before, place = final.asked((2,) * 4, 1e-3, 0), final.place
    monkeypatch.setattr(final_identity, "instruction_set", lambda device: "of another processor")
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert final.asked((2,) * 4, 1e-3, 0) == before
    assert final.place != place
    final.engine.device = torch.device("meta")
    assert final.asked((2,) * 4, 1e-3, 0) != before


@pytest.mark.parametrize("damage", [b"", b"\x80\x04.", None], ids=["empty", "pickle", "cut short"])
def test_a_damaged_state_is_refused_in_one_line(pretrained: Pretrained, tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "state"
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1))
    final.train((2, 2, 2, 2), 1e-3, 0, path)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(ReLeQError, match="damaged .*; delete it and start again") as caught:
        final.train((2, 2, 2, 2), 1e-3, 0, path)
    assert "\n" not in str(caught.value)


def test_an_epoch_is_estimated_and_changes_nothing(pretrained: Pretrained, tmp_path: Path) -> None:
    final = digits(pretrained, dataclasses.replace(SHORT, epochs=1))
    first = state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "first").network)
    assert 0.0 < final.seconds_an_epoch((2, 2, 2, 2)) < 60.0
    assert 0.0 < digits(pretrained, dataclasses.replace(SHORT, batch_size=10**6)).seconds_an_epoch(None) < 60.0
    assert equal(state(final.train((2, 2, 2, 2), 1e-3, 0, tmp_path / "second").network), first)


def test_every_built_in_task_has_a_recipe_augmented_as_its_pre_training(task_name: str) -> None:
    task = TASKS[task_name]
    recipe = FINAL_RECIPES[task_name]
    assert final_recipe(task) is recipe
    assert (recipe.flip, recipe.shift) == (task.pretraining.flip, task.pretraining.shift)
    assert recipe.learning_rate in recipe.control_rates


def test_another_task_of_that_name_has_the_plain_recipe() -> None:
    task = dataclasses.replace(
        DIGITS, retraining=RetrainingRecipe(0, batch_size=7), pretraining=PretrainingRecipe(1, shift=1)
    )
    assert final_recipe(task) == FinalRecipe(batch_size=32, shift=1)  # batches of 7 are for a few steps only
    larger = dataclasses.replace(task, retraining=RetrainingRecipe(0, batch_size=100))
    assert final_recipe(larger).batch_size == 100


def refused() -> Iterator[tuple[str, Any]]:
    for name in ("epochs", "batch_size", "learning_rate", "temperature"):
        yield from ((name, value) for value in (0, -1, None, "1"))
    for name in ("shift", "warm_start", "distillation", "freeze", "average", "step_rate", "distillation_end"):
        yield name, -1
    for name in ("distillation", "distillation_end", "freeze"):
        yield name, 1.1
    yield from (("average", 1.0), ("flip", 1), ("live_batch_norm", "no"))
    yield from (
        ("control_rates", ()),
        ("control_rates", (0.0,)),
        ("control_rates", "1e-3"),
        ("learning_rate", math.nan),
    )


@pytest.mark.parametrize(("name", "value"), list(refused()))
def test_a_recipe_that_makes_no_sense_is_refused_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(ReLeQError, match=rf"{name}=.*; give ") as caught:
        FinalRecipe(**{name: value})
    assert "\n" not in str(caught.value)


def test_what_the_task_has_not_is_refused() -> None:
    with pytest.raises(
        ReLeQError, match="temperature=2.0 cannot be used with the own distillation of normalised; give 1.0"
    ):
        normalised(FinalRecipe(temperature=2.0), distillation=F.mse_loss)
    flat = dataclasses.replace(normalised(SHORT).engine.pretrained, input_shape=(64,))
    engine = normalised(SHORT).engine
    engine.pretrained = flat
    with pytest.raises(ReLeQError, match="cannot be mirrored or shifted"):
        FinalRetraining(engine, FinalRecipe(shift=1))


def test_another_version_of_the_quantizer_is_asked_for_and_the_same_control(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized, control = (digits(pretrained).asked(bits, 1e-3, 0) for bits in ((2,) * 4, None))
    monkeypatch.setitem(QUANTIZERS, "lsq", dataclasses.replace(QUANTIZERS["lsq"], version=99))
    assert digits(pretrained).asked((2,) * 4, 1e-3, 0) != quantized
    assert digits(pretrained).asked(None, 1e-3, 0) == control


def test_raising_the_version_changes_what_is_asked(pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digits(pretrained).asked((2,) * 4, 1e-3, 0)
    monkeypatch.setattr(final_identity, "FINAL_VERSION", 99)
    assert digits(pretrained).asked((2,) * 4, 1e-3, 0) != before
