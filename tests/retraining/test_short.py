import contextlib
import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from releq_env.errors import ReLeQError
from releq_env.evaluation.cache import Keys
from releq_env.quantization import QUANTIZERS, Quantizer, quantizable_layers, quantize
from releq_env.quantization.least_error import least_error_steps
from releq_env.quantization.lsq import LSQ
from releq_env.quantization.wrpn import WRPN
from releq_env.retraining.batch_norm import recalibrate
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, Pretrained, RetrainingRecipe, Task, load_pretrained
from releq_env.tasks.datasets import Dataset, Examples
from releq_env.tasks.networks import SVHN8
from tests.fakes import RandomImages, random_dataset

DIGITS = TASKS["digits"]


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(DIGITS)


@pytest.fixture
def live(pretrained: Pretrained) -> Callable[..., ShortRetraining]:
    """A short retraining of Digits, with the small budget of two batches unless told otherwise."""

    def build(task: Task = DIGITS, **kwargs: Any) -> ShortRetraining:
        return ShortRetraining(task, pretrained, **({"retrain_images": 64} | kwargs))

    return build


def with_network(network: nn.Module, task: Task) -> Pretrained:
    shape = task.dataset.input_shape
    return Pretrained(network.eval(), quantizable_layers(network, shape), 0.5, "none", shape)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_assignment_same_accuracy(live: Callable[..., Any], quantizer: str, precision: str) -> None:
    retraining = live(quantizer=quantizer, precision=precision)
    first, _ = retraining.measure((2, 3, 2, 4))
    retraining.measure((8, 8, 8, 8))
    torch.manual_seed(99)  # the global generator must play no part
    torch.rand(7)
    assert retraining.measure((2, 3, 2, 4))[0] == first
    assert live(quantizer=quantizer, precision=precision).measure((2, 3, 2, 4))[0] == first


def test_same_accuracy_in_another_process(live: Callable[..., Any], python: Callable[..., str]) -> None:
    code = """
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, load_pretrained
task = TASKS["digits"]
retraining = ShortRetraining(task, load_pretrained(task), retrain_images=320)
print([retraining.measure(bits)[0] for bits in [(2, 2, 2, 2), (1, 2, 1, 2)]])
"""
    # The number of threads that the process was given must not matter either.
    printed = python(code, OMP_NUM_THREADS="2")
    retraining = live(retrain_images=320)
    assert printed.strip() == str([retraining.measure(bits)[0] for bits in [(2, 2, 2, 2), (1, 2, 1, 2)]])


def test_the_default_budget_keeps_most_of_the_accuracy_at_two_bits(pretrained: Pretrained) -> None:
    accuracy, seconds = ShortRetraining(DIGITS, pretrained).measure((2, 2, 2, 2))
    assert accuracy > 0.95 * pretrained.accuracy
    assert seconds > 0


def test_retraining_helps_where_quantization_hurts(live: Callable[..., Any]) -> None:
    without, _ = live(retrain_images=0).measure((1, 1, 1, 1))
    trained, _ = live(retrain_images=1600).measure((1, 1, 1, 1))
    assert trained > without + 0.02


def test_the_seed_changes_the_order_of_images(live: Callable[..., Any]) -> None:
    bits = [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 1, 2)]
    first, second = live(retrain_seed=0), live(retrain_seed=1)
    assert [first.measure(b)[0] for b in bits] != [second.measure(b)[0] for b in bits]


@pytest.mark.parametrize("images", [1, 31, 33, 801, 1600])
def test_the_budget_is_kept_to_the_image(live: Callable[..., Any], images: int) -> None:
    batches: list[torch.Tensor] = []

    def spy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batches.append(labels)
        return nn.functional.cross_entropy(logits, labels)

    live(replace(DIGITS, loss=spy), retrain_images=images).measure((2, 2, 2, 2))
    assert sum(len(batch) for batch in batches) == images
    assert all(0 < len(batch) <= 32 for batch in batches)
    if images >= 800:
        # Every image of the training part once before any is seen twice.
        training, _ = DIGITS.dataset.load()
        assert torch.equal(torch.cat(batches)[:800].bincount(), training.targets.bincount())


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("bits", [(2, 3, 2, 4), (8, 2, 5, 3)])
def test_without_retraining_it_is_post_training_quantization(
    pretrained: Pretrained, live: Callable[..., Any], quantizer: str, bits: tuple[int, ...]
) -> None:
    network = copy.deepcopy(pretrained.network)
    with torch.no_grad():
        for layer, b in zip(pretrained.layers, bits, strict=True):
            weight = network.get_submodule(layer.name).weight
            if quantizer == "wrpn":
                n = 2 ** (b - 1) - 1
                quantized = torch.round(weight.clamp(-1, 1) * n) / n
            elif quantizer == "dorefa":
                m = 2**b - 1
                squashed = torch.tanh(weight)
                quantized = 2 * torch.round((squashed / (2 * squashed.abs().max()) + 0.5) * m) / m - 1
            else:
                top, shift = (2 ** (b - 1) - 0.5, 0.5) if b <= 3 else (2 ** (b - 1) - 1, 0.0)
                step = least_error_steps(weight.flatten(1), top, shift).view(-1, *(1,) * (weight.ndim - 1))
                quantized = (torch.round(weight / step - shift) + shift).clamp(-top, top) * step
            weight.copy_(quantized)
        _, validation = DIGITS.dataset.load()
        predicted = network(DIGITS.dataset.normalize(validation.inputs)).argmax(dim=1)
        expected = (predicted == validation.targets).float().mean().item()
    accuracy, _ = live(quantizer=quantizer, retrain_images=0, precision="fp32").measure(bits)
    # One image of 500 may lie on a decision boundary: sums are taken in another order.
    assert accuracy == pytest.approx(expected, abs=1.5 / 500)


def test_precisions_agree_roughly(live: Callable[..., Any]) -> None:
    accuracies = [live(precision=p, retrain_images=800).measure((4, 4, 4, 4))[0] for p in ("fp32", "bf16")]
    assert min(accuracies) > 0.9
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_the_pretrained_network_is_not_changed(
    pretrained: Pretrained, live: Callable[..., Any], quantizer: str
) -> None:
    before = copy.deepcopy(pretrained.network.state_dict())
    live(quantizer=quantizer).measure((2, 2, 2, 2))
    after = pretrained.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert not any(hasattr(module, "parametrizations") for module in pretrained.network.modules())
    assert not pretrained.network.training
    assert all(parameter.grad is None for parameter in pretrained.network.parameters())


def test_the_number_of_threads_is_given_back(live: Callable[..., Any]) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        live().measure((2, 2, 2, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_data_are_read_once_and_not_before_the_first_measurement(pretrained: Pretrained) -> None:
    dataset = random_dataset()
    task = replace(DIGITS, dataset=dataset)
    retraining = ShortRetraining(task, pretrained, retrain_images=10)
    assert dataset.read.reads == 0
    retraining.measure((2, 2, 2, 2))
    retraining.measure((3, 3, 3, 3))
    assert dataset.read.reads == 1


def test_a_pickled_one_leaves_the_data_behind(live: Callable[..., Any]) -> None:
    retraining = live()
    expected, _ = retraining.measure((2, 2, 2, 2))
    payload = pickle.dumps(retraining)
    assert len(payload) < 800_000  # weights of 150 kB; images in float32 would be 300 kB more
    assert pickle.loads(payload).measure((2, 2, 2, 2))[0] == expected


def test_data_of_one_name_are_not_mixed_up(pretrained: Pretrained) -> None:
    # A user's own data have no digest that would tell them apart.
    first, second = (replace(random_dataset(), read=RandomImages()) for _ in range(2))
    second.read.count = 90
    other = replace(random_dataset(), mean=(5.0,))
    several = [
        ShortRetraining(replace(DIGITS, dataset=dataset), pretrained, retrain_images=0)
        for dataset in (first, second, other)
    ]
    data = [retraining.load() for retraining in several]
    assert [len(part.targets) for part in data] == [50, 60, 50]
    assert not torch.equal(data[0].inputs, data[2].inputs)


def test_a_reseeded_one_is_one_with_another_seed(live: Callable[..., Any]) -> None:
    other = live(retrain_seed=0).reseeded(1)
    assert other.fingerprint == live(retrain_seed=1).fingerprint
    bits = (1, 1, 1, 1)
    assert other.measure(bits)[0] == live(retrain_seed=1).measure(bits)[0] == live().measure(bits, retrain_seed=1)[0]


# Whatever else goes on in the process


@contextlib.contextmanager
def setting(get: Callable[[], Any], set_: Callable[[Any], None], value: object) -> Iterator[None]:
    before = get()
    set_(value)
    try:
        yield
        assert get() == value  # it is given back
    finally:
        set_(before)


SURROUNDINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "matmul": lambda: setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "mkldnn": lambda: setting(
        lambda: torch.backends.mkldnn.enabled, lambda on: setattr(torch.backends.mkldnn, "enabled", on), False
    ),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_settings_of_torch_around_it_play_no_part(live: Callable[..., Any], name: str, precision: str) -> None:
    results: list[torch.Tensor] = []

    def metric(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        results.append(outputs)  # an accuracy would hide most differences
        return 0.5

    task = replace(DIGITS, metric=metric)
    live(task, precision=precision, retrain_images=320).measure((4, 4, 4, 4))
    with SURROUNDINGS[name]():
        live(task, precision=precision, retrain_images=320).measure((4, 4, 4, 4))
    assert torch.equal(*results)


def test_a_network_that_was_made_under_another_default_type(live: Callable[..., Any]) -> None:
    with setting(torch.get_default_dtype, torch.set_default_dtype, torch.float64):
        pretrained = load_pretrained(DIGITS)
    accuracy, _ = ShortRetraining(DIGITS, pretrained, retrain_images=64).measure((2, 2, 2, 2))
    assert accuracy == live().measure((2, 2, 2, 2))[0]


def test_threads_do_not_disturb_each_other(live: Callable[..., Any]) -> None:
    retraining = live()
    assignments = [(bits, 1 + bits % 3, bits, 1) for bits in range(1, 9)] * 2
    expected = [retraining.measure(bits)[0] for bits in assignments]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        assert [accuracy for accuracy, _ in pool.map(retraining.measure, assignments)] == expected
    assert torch.get_num_threads() == threads


# Networks, losses and data of one's own


class SkipNet(nn.Module):
    """A skip is taken between pool and activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.relu = nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()
        self.out = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.conv(images))
        return self.out((self.relu(pooled) - pooled).flatten(1))


class WalkingNet(nn.Module):
    """Walks its own Sequential, and uses what a convolution returns beside its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False))
        self.out = nn.Linear(512, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        results = [images]
        for layer in self.layers:
            results.append(layer(results[-1]))
        return self.out(torch.relu(results[1] * results[2]).flatten(1))


@pytest.mark.parametrize("kind", [SkipNet, WalkingNet])
def test_any_network_is_measured_as_it_is(live: Callable[..., Any], kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    data = live(precision="fp32").load()
    network = kind().train()
    for _ in range(5):
        network(data.inputs * 3.0 + 1.0)  # statistics that change numbers
    outputs: list[torch.Tensor] = []

    def metric(logits: torch.Tensor, labels: torch.Tensor) -> float:
        outputs.append(logits)
        return 0.5

    task = replace(DIGITS, metric=metric)
    retraining = ShortRetraining(task, with_network(network, task), retrain_images=0, precision="fp32")
    retraining.measure((8, 8))
    plain = quantize(network, ["layers.0" if kind is WalkingNet else "conv", "out"], (8, 8))
    recalibrate(plain, data.inputs.split(500))
    with torch.no_grad():
        torch.testing.assert_close(outputs[0], plain(data.validation_inputs), rtol=1e-3, atol=1e-3)


class OneDimensional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))


class ThreeDimensional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm3d(4, affine=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 1),
        )


class Flat(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))


def read_means(shape: tuple[int, ...], root: Path, train: bool, download: bool) -> Examples:
    inputs = torch.randn(400, *shape, generator=torch.Generator().manual_seed(int(train)))
    return Examples(inputs, inputs.flatten(1).mean(dim=1, keepdim=True))


def closeness(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return 1.0 / (1.0 + float((outputs - targets).square().mean() / targets.square().mean()))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "shape"), [(OneDimensional, (2, 8)), (ThreeDimensional, (1, 4, 4, 4)), (Flat, (6,))], ids=str
)
def test_a_regression_of_any_shape(kind: type[nn.Module], shape: tuple[int, ...], precision: str) -> None:
    torch.manual_seed(0)
    dataset = Dataset("Means", shape, partial(read_means, shape), validation_images=100)
    task = replace(
        DIGITS,
        network=kind,
        dataset=dataset,
        retraining=RetrainingRecipe(3000, 32, 1e-2),
        loss=mse_loss,
        metric=closeness,
    )
    retraining = ShortRetraining(task, with_network(kind(), task), precision=precision)
    untrained = ShortRetraining(task, retraining.pretrained, retrain_images=0, precision=precision)
    assert retraining.measure((8, 8))[0] > max(untrained.measure((8, 8))[0], 0.5)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 7.5])
def test_a_metric_that_is_no_accuracy(live: Callable[..., Any], value: float) -> None:
    with pytest.raises(ReLeQError, match=r"the metric of digits has given .*; let it return a number in \[0, 1\]"):
        live(replace(DIGITS, metric=lambda outputs, targets: value)).measure((2, 2, 2, 2))


def test_a_loss_that_nothing_tells_from_others_has_no_key(live: Callable[..., Any]) -> None:
    task = replace(DIGITS, loss=lambda outputs, targets: outputs.square().mean())
    assert live(task).fingerprint is None
    assert live(replace(task, cache_key="squares")).fingerprint is not None


@pytest.mark.parametrize("count", [31, 32, 33])
def test_fewer_training_images_than_a_batch(pretrained: Pretrained, count: int) -> None:
    task = replace(DIGITS, dataset=random_dataset(count=count, validation_images=30))
    accuracy, _ = ShortRetraining(task, pretrained, retrain_images=10).measure((2, 2, 2, 2))
    assert 0.0 <= accuracy <= 1.0


# Divergence


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_is_a_low_accuracy(live: Callable[..., Any], quantizer: str, precision: str) -> None:
    recipe = RetrainingRecipe(images=320, batch_size=32, learning_rate=1e18)
    retraining = live(replace(DIGITS, retraining=recipe), quantizer=quantizer, precision=precision, retrain_images=320)
    accuracy, _ = retraining.measure((2, 2, 2, 2))
    assert 0.0 <= accuracy < 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_weights_that_are_no_numbers_give_an_accuracy(pretrained: Pretrained, value: float) -> None:
    network = copy.deepcopy(pretrained.network)
    with torch.no_grad():
        network.get_submodule("conv2").weight.fill_(value)
    broken = replace(pretrained, network=network)
    for bits in ((1, 1, 1, 1), (2, 2, 2, 2), (8, 8, 8, 8)):
        accuracy, _ = ShortRetraining(DIGITS, broken, retrain_images=64).measure(bits)
        assert 0.0 <= accuracy < 0.5


# Batch normalisation


@pytest.fixture(scope="module")
def svhn_task() -> Task:
    dataset = random_dataset((3, 32, 32), count=24, validation_images=8)
    return replace(TASKS["svhn"], dataset=dataset, retraining=RetrainingRecipe(images=16, batch_size=8))


@pytest.fixture(scope="module")
def svhn_network() -> SVHN8:
    torch.manual_seed(0)
    return SVHN8()


@pytest.mark.parametrize(
    ("quantizer", "precision"), [*((quantizer, "fp32") for quantizer in QUANTIZERS), ("lsq", "bf16")]
)
def test_a_network_with_batch_norm_and_dropout(
    svhn_task: Task, svhn_network: SVHN8, quantizer: str, precision: str
) -> None:
    before = copy.deepcopy(svhn_network.state_dict())
    retraining = ShortRetraining(
        svhn_task, with_network(svhn_network, svhn_task), quantizer=quantizer, precision=precision
    )
    accuracy, _ = retraining.measure((2, 8, 3, 4, 5, 6, 7, 8))
    assert 0.0 <= accuracy <= 1.0
    assert retraining.measure((2, 8, 3, 4, 5, 6, 7, 8))[0] == accuracy
    assert all(torch.equal(value, before[name]) for name, value in svhn_network.state_dict().items())


def test_statistics_are_those_of_the_quantized_network() -> None:
    # A convolution that no longer fits the stored statistics: only re-estimated ones give the right scale and shift.
    torch.manual_seed(0)
    task = replace(DIGITS, dataset=random_dataset(count=200, validation_images=100))
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    training, _ = task.dataset.load()
    images = task.dataset.normalize(training.inputs)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        nn.functional.cross_entropy(network(images), training.targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    retraining = ShortRetraining(task, with_network(network, task), retrain_images=0, precision="fp32")
    good, _ = retraining.measure((8, 8))
    assert good > 0.8
    with torch.no_grad():
        network[0].weight.mul_(100)
        network[0].bias.mul_(100).add_(1000)
    rescaled = ShortRetraining(task, with_network(network, task), retrain_images=0, precision="fp32")
    assert rescaled.measure((8, 8))[0] == pytest.approx(good, abs=0.03)


# The fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer": "wrpn"},
        {"retrain_images": 65},
        {"retrain_images": 0},
        {"retrain_seed": 1},
        {"task": replace(DIGITS, retraining=RetrainingRecipe(images=1600, batch_size=31))},
        {"task": replace(DIGITS, retraining=RetrainingRecipe(1600, 32, 2e-3))},
        {"task": replace(DIGITS, dataset=random_dataset())},
        {"task": replace(DIGITS, dataset=replace(DIGITS.dataset, validation_images=499))},
        {"task": replace(DIGITS, dataset=replace(DIGITS.dataset, mean=(0.5,)))},
        {"task": replace(DIGITS, dataset=replace(DIGITS.dataset, std=(0.5,)))},
    ],
    ids="-".join,
)
def test_the_key_changes_with_what_an_accuracy_depends_on(live: Callable[..., Any], change: dict[str, Any]) -> None:
    keys = {Keys(retraining.fingerprint)((2, 2, 2, 2)) for retraining in (live(), live(**change))}
    assert len(keys) == 2


def test_the_key_changes_with_precision_and_weights(live: Callable[..., Any], pretrained: Pretrained) -> None:
    keys = {Keys(live(precision=p).fingerprint)((2, 2, 2, 2)) for p in ("fp32", "bf16")}
    other = ShortRetraining(DIGITS, replace(pretrained, sha256="other"), retrain_images=64, precision="fp32")
    keys.add(Keys(other.fingerprint)((2, 2, 2, 2)))
    assert len(keys) == 3


class Scaled(WRPN):
    def __init__(self, weight: torch.Tensor, bits: int, factor: float, straight: float = 1.0) -> None:
        super().__init__(weight, bits)
        self.factor, self.straight = factor, straight

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        value = super().forward(weight) * self.factor
        return value.detach() + self.straight * (value - value.detach())


def scaled(factor: float, straight: float = 1.0) -> Callable[..., Scaled]:
    return lambda weight, bits: Scaled(weight, bits, factor, straight)


def test_a_quantizer_is_known_by_what_makes_it(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    builds = (WRPN, scaled(1.0), scaled(2.0), scaled(2.0), partial(Scaled, factor=1.0), partial(Scaled, factor=2.0))
    for build in ("releq_env.quantization.wrpn:WRPN", *builds):
        monkeypatch.setitem(QUANTIZERS, "mine", Quantizer((2,), build, "tensor"))
        keys.add(Keys(live(quantizer="mine").fingerprint)((2, 2, 2, 2)))
    assert len(keys) == 6  # two are the same


def test_a_quantizer_is_known_by_its_version(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"wrpn": live(quantizer="wrpn").fingerprint, "lsq": live().fingerprint}
    monkeypatch.setitem(QUANTIZERS, "wrpn", replace(QUANTIZERS["wrpn"], version=2))
    assert live(quantizer="wrpn").fingerprint != known["wrpn"]
    assert live().fingerprint == known["lsq"]


def test_a_quantizer_is_known_by_its_rates(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for changes in ({}, {"own_rate": 0.5}, {"slower": False}):
        made = type("Mine", (LSQ,), changes)
        monkeypatch.setitem(
            QUANTIZERS, "mine", replace(QUANTIZERS["lsq"], build=lambda w, b, made=made: made(w, max(b, 2)))
        )
        keys.add(Keys(live(quantizer="mine").fingerprint)((2, 2, 2, 2)))
    assert len(keys) == 3


def test_a_quantizer_is_known_by_its_gradient(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = []
    for straight in (0.0, 1.0):
        monkeypatch.setitem(QUANTIZERS, "mine", Quantizer((2, 3), scaled(1.0, straight), "tensor"))
        fingerprints.append(live(quantizer="mine").fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_a_quantizer_of_the_script_is_the_same_in_a_worker(
    live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = []
    for module in ("__main__", "__mp_main__", "another"):  # the second is what a worker calls the script
        build = scaled(2.0)
        build.__module__ = module
        monkeypatch.setitem(QUANTIZERS, "mine", Quantizer((2,), build, "tensor"))
        fingerprints.append(live(quantizer="mine").fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_quantizer_that_fails_cannot_be_told_from_others(
    live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUANTIZERS, "mine", Quantizer((2,), partial(WRPN, 1), "tensor"))
    assert live(quantizer="mine").fingerprint is None


def test_the_key_does_not_change_with_where_the_data_are(live: Callable[..., Any]) -> None:
    first, second = live(data_root="here").fingerprint, live(data_root="there").fingerprint
    assert Keys(first)((2, 2, 2, 2)) == Keys(second)((2, 2, 2, 2))


def test_the_full_precision_network_can_be_prepared_too(live: Callable[..., ShortRetraining]) -> None:
    retraining = live(precision="fp32")
    data = retraining.load()
    outputs = retraining.outputs(retraining.prepared(None), data.validation_inputs)
    assert retraining.accuracy(outputs, data) == pytest.approx(retraining.pretrained.accuracy, abs=0.01)
    with pytest.raises(ReLeQError):
        retraining.prepared((2, 2))


# Wrong input


@pytest.mark.parametrize("name", ["retrain_images", "retrain_seed"])
@pytest.mark.parametrize("value", [-1, 1.5, 10.0, "10", True, {}], ids=repr)
def test_numbers_that_are_not_whole_or_negative(live: Callable[..., Any], name: str, value: object) -> None:
    with pytest.raises(ReLeQError) as raised:
        live(**{name: value})
    message = str(raised.value)
    assert f"{name}={value!r}" in message
    assert "whole number from 0" in message


def test_several_seeds_are_averaged(live: Callable[..., Any]) -> None:
    several = live(retrain_seed=(3, 0), retrain_images=96)
    singles = [live(retrain_seed=seed, retrain_images=96).measure((2, 2, 2, 2))[0] for seed in (3, 0)]
    assert several.measure((2, 2, 2, 2))[0] == sum(singles) / 2
    assert several.measure((2, 2, 2, 2), 3)[0] == singles[0]
    assert live(retrain_seed=[3]).fingerprint == live(retrain_seed=3).fingerprint != several.fingerprint


@pytest.mark.parametrize(
    ("seeds", "wrong"), [((), "()"), ((1, 1), "(1, 1)"), ((0, -1), "retrain_seed[1]=-1"), ((0, 1.5), "[1]=1.5")]
)
def test_seeds_that_cannot_be_averaged(live: Callable[..., Any], seeds: tuple[Any, ...], wrong: str) -> None:
    with pytest.raises(ReLeQError) as raised:
        live(retrain_seed=seeds)
    assert wrong in str(raised.value)


@pytest.mark.parametrize("bits", [(2, 2, 2), (2, 2, 2, 2, 2), (), (2,) * 100_000], ids=len)
def test_assignments_of_another_length(live: Callable[..., Any], bits: tuple[int, ...]) -> None:
    with pytest.raises(ReLeQError, match=rf"{len(bits)} bitwidths; give 4, one a layer of digits") as raised:
        live().measure(bits)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("quantizer", "bits"),
    [("lsq", (0, 2, 2, 2)), ("lsq", (2, 2, 2, 9)), ("wrpn", (1, 2, 2, 2)), ("dorefa", (2, 1, 2, 2))],
)
def test_unsupported_bits_are_an_error_and_not_an_accuracy(
    live: Callable[..., Any], quantizer: str, bits: tuple[int, ...]
) -> None:
    with pytest.raises(ReLeQError):
        live(quantizer=quantizer).measure(bits)
