import copy
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import LiveSource, live_source
from releq_env.quantization import QUANTIZERS, quantizable_layers, quantize
from releq_env.retraining.distillation import distilled_loss
from releq_env.retraining.rates import parameter_groups
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, Pretrained, RetrainingRecipe, Task, load_pretrained
from releq_env.tasks.networks import SVHN8
from releq_env.workers import stacked
from releq_env.workers.stack import Stack
from releq_env.workers.stacked import StackedPool
from releq_env.workers.waiting import Waiting
from tests.fakes import bits_of, random_dataset

DIGITS = TASKS["digits"]
CLOSE = 0.02  # 10 of 500 validation images: sums rounded in another order, then a few steps of retraining
MIXED = {
    "lsq": [(1, 2, 3, 4), (8, 7, 6, 5), (2, 1, 8, 1), (1, 1, 1, 1), (4, 4, 4, 4)],
    "wrpn": [(2, 3, 4, 5), (8, 7, 6, 5), (2, 2, 8, 2), (3, 2, 3, 2), (4, 4, 4, 4)],
    "dorefa": [(2, 3, 4, 5), (8, 7, 6, 5), (2, 2, 8, 2), (3, 2, 3, 2), (4, 4, 4, 4)],
}


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(DIGITS)


@pytest.fixture
def live(pretrained: Pretrained) -> Callable[..., ShortRetraining]:
    """A short retraining of Digits in fp32, with the small budget of two batches unless told otherwise."""

    def build(task: Task = DIGITS, pretrained: Pretrained = pretrained, **kwargs: Any) -> ShortRetraining:
        return ShortRetraining(task, pretrained, **({"retrain_images": 64, "precision": "fp32"} | kwargs))

    return build


def with_network(network: nn.Module, task: Task) -> Pretrained:
    shape = task.dataset.input_shape
    return Pretrained(network.eval(), quantizable_layers(network, shape), 0.5, "none", shape)


def accuracies(retraining: ShortRetraining, assignments: Iterable[tuple[int, ...]], seed: int = 0) -> list[float]:
    """Measured in one stack."""
    measured = dict(StackedPool(retraining).measure(Waiting(assignments), seed))
    return [measured[assignment][0] for assignment in assignments]


def alone(retraining: ShortRetraining, assignments: Iterable[tuple[int, ...]], seed: int = 0) -> list[float]:
    return [retraining.measure(assignment, seed)[0] for assignment in assignments]


# The same as one at a time


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_without_retraining_accuracies_are_equal(live: Callable[..., Any], quantizer: str) -> None:
    retraining = live(quantizer=quantizer, retrain_images=0)
    assert accuracies(retraining, MIXED[quantizer]) == alone(retraining, MIXED[quantizer])


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_after_some_steps_accuracies_are_close(live: Callable[..., Any], quantizer: str) -> None:
    retraining = live(quantizer=quantizer, retrain_images=5 * 32 + 7)
    expected = alone(retraining, MIXED[quantizer], seed=3)
    assert accuracies(retraining, MIXED[quantizer], seed=3) == pytest.approx(expected, abs=CLOSE)
    # The order of the images, which is shared, can be told apart.
    assert expected != alone(retraining, MIXED[quantizer], seed=4)


@pytest.fixture
def faint() -> Task:
    """Digits, faint: DoReFa's weights span [-1, 1], and with normal images all its gradients would vanish."""
    return replace(DIGITS, dataset=replace(DIGITS.dataset, std=(30.0,)))


def quantized(retraining: ShortRetraining, assignment: tuple[int, ...]) -> nn.Module:
    """The network of one candidate, with nothing done for speed."""
    names = [layer.name for layer in retraining.pretrained.layers]
    return quantize(retraining.pretrained.network, names, assignment, retraining.quantizer).eval()


def parameters(stack: Stack, k: int, network: nn.Module) -> Iterator[tuple[Tensor, int, nn.Parameter]]:
    """Yield what is trained: all candidates' tensors, the candidate's index, and the same of its own network."""
    singles = dict(network.named_parameters())
    for name, together in stack._stacks.items():
        yield together, k, singles.pop(name.replace(".weight", ".parametrizations.weight.original"))
    for name, quantizer in stack._quantizers.items():
        step = singles.pop(f"{name.removesuffix('.weight')}.parametrizations.weight.0.log_step", None)
        if step is not None:  # there is none for 1 bit
            yield quantizer.get_parameter("log_step"), k, step
    assert not singles


def largest_difference(retraining: ShortRetraining, assignments: Sequence[tuple[int, ...]], draw: int) -> float:
    """Of the gradients of a stack from those of each alone, by norm, with images moved at random."""
    data, generator = retraining.load(), torch.Generator().manual_seed(draw)
    noise = torch.rand(data.inputs[:32].shape, generator=generator) / 100
    images, labels, teacher = data.inputs[:32] + noise, data.targets[:32], torch.randn(32, 10, generator=generator)
    stack, found = Stack(retraining, assignments), 0.0
    stack.loss(images, labels, teacher).backward()
    for k, assignment in enumerate(assignments):
        network = quantized(retraining, assignment)
        distilled_loss(retraining.task)(network(images), labels, teacher).backward()
        for together, index, single in parameters(stack, k, network):
            size = float(single.grad.norm())
            assert size > 0 or 2 in assignment  # few bits of WRPN make zeros
            found = max(found, float((together.grad[index] - single.grad).norm()) / (size or 1.0))
    return found


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_gradients_are_equal(live: Callable[..., Any], faint: Task, quantizer: str) -> None:
    # A sum that is zero but for rounding falls to either side of a ReLU, but not with every draw.
    retraining = live(faint, quantizer=quantizer)
    assert any(largest_difference(retraining, MIXED[quantizer], draw) <= 1e-5 for draw in range(8))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_after_some_steps_weights_are_equal(live: Callable[..., Any], faint: Task, quantizer: str) -> None:
    retraining = live(faint, quantizer=quantizer, retrain_images=4 * 32)
    data = retraining.load()
    stack = Stack(retraining, MIXED[quantizer])
    retraining.descend(stack.groups, stack.loss, data, 0, stack.slowed)
    for k, assignment in enumerate(MIXED[quantizer]):
        network, before = quantized(retraining, assignment), quantized(retraining, assignment)

        def loss(images: Tensor, labels: Tensor, teacher: Tensor | None, network: nn.Module = network) -> Tensor:
            return distilled_loss(retraining.task)(network(images), labels, teacher)

        layers = dict(zip((layer.name for layer in retraining.pretrained.layers), assignment, strict=True))
        retraining.descend(parameter_groups(network, layers, retraining.learning_rate), loss, data, 0)
        for (together, index, single), start in zip(
            parameters(stack, k, network), [old for *_, old in parameters(stack, k, before)], strict=True
        ):
            # Not to the last digit: where a gradient is little but rounding, Adam makes a whole step of it.
            assert (together[index] - single).norm() <= 0.01 * (single - start).norm()
            assert not torch.equal(single, start) or 2 in assignment


def test_bf16_is_close(live: Callable[..., Any]) -> None:
    retraining = live(precision="bf16", retrain_images=320)
    differences = torch.tensor(accuracies(retraining, MIXED["lsq"])) - torch.tensor(alone(retraining, MIXED["lsq"]))
    assert differences.abs().mean() < 0.01


def test_a_result_does_not_depend_on_the_others_or_their_order(live: Callable[..., Any]) -> None:
    retraining = live(retrain_images=96)
    several = MIXED["lsq"]
    expected = dict(zip(several, accuracies(retraining, several), strict=True))
    for chosen in (several[::-1], several[1:3], [several[3], (8, 8, 8, 8), several[0]], several[2:3], several[:1] * 2):
        found = dict(zip(chosen, accuracies(retraining, chosen), strict=True))
        shared = [assignment for assignment in chosen if assignment in expected]
        assert [found[a] for a in shared] == pytest.approx([expected[a] for a in shared], abs=CLOSE)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_stack_gives_the_same(live: Callable[..., Any], precision: str) -> None:
    retraining = live(precision=precision)
    first = accuracies(retraining, MIXED["lsq"])
    torch.rand(3)  # the global generator must play no part
    assert accuracies(retraining, MIXED["lsq"]) == first


def test_the_pretrained_network_is_not_changed(pretrained: Pretrained, live: Callable[..., Any]) -> None:
    before = copy.deepcopy(pretrained.network.state_dict())
    accuracies(live(), MIXED["lsq"])
    after = pretrained.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(parameter.grad is None for parameter in pretrained.network.parameters())
    assert not pretrained.network.training


# Networks


@pytest.fixture(scope="module")
def svhn_task() -> Task:
    dataset = random_dataset((3, 32, 32), count=24, validation_images=8)
    return replace(TASKS["svhn"], dataset=dataset, retraining=RetrainingRecipe(images=16, batch_size=16))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_with_batch_norm_and_dropout(svhn_task: Task, precision: str) -> None:
    torch.manual_seed(0)
    retraining = ShortRetraining(svhn_task, with_network(SVHN8(), svhn_task), precision=precision)
    assignments = [(2, 8, 3, 4, 5, 6, 7, 8), (1, 2, 1, 2, 1, 2, 1, 2), (8,) * 8]
    found = accuracies(retraining, assignments)
    assert len(found) == 3
    assert all(0.0 <= accuracy <= 1.0 for accuracy in found)
    assert accuracies(retraining, assignments) == found


def test_batch_norm_is_calibrated_for_each_candidate(svhn_task: Task) -> None:
    torch.manual_seed(0)
    retraining = ShortRetraining(svhn_task, with_network(SVHN8(), svhn_task), precision="fp32")
    assignments = [(2, 8, 3, 4, 5, 6, 7, 8), (1, 2, 1, 2, 1, 2, 1, 2), (8,) * 8]
    data = retraining.load()
    stack = Stack(retraining, assignments)
    stack.recalibrate(retraining.calibration())
    stack.loss(data.inputs[:16], data.targets[:16], None).backward()
    gradients = stack._stacks["features.0.weight"].grad
    assert gradients is not None
    for k, assignment in enumerate(assignments):
        network = quantized(retraining, assignment)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0  # there is but one batch
            norm.train()
        network(data.inputs)
        network.eval()
        for name, statistic in stack._statistics.items():
            torch.testing.assert_close(statistic[k], network.get_buffer(name), rtol=1e-4, atol=1e-5)
        functional.cross_entropy(network(data.inputs[:16]), data.targets[:16]).backward()
        single = network.get_parameter("features.0.parametrizations.weight.original").grad
        assert single is not None
        assert (gradients[k] - single).norm() < 0.02 * single.norm()  # one ReLU may change sides


class Unusual(nn.Module):
    """Groups, affine normalisation, shared and frozen weights, attention, in-place and 1-d layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.batch_norm, self.group_norm = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.activation, self.dropout = nn.SiLU(inplace=True), nn.Dropout(0.5)
        self.position = nn.Parameter(torch.zeros(1, 8, 1))
        self.one_dimensional = nn.Conv1d(8, 8, 3, padding=1)
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.norm = nn.LayerNorm(64)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(512, 10)

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.activation(self.group_norm(self.batch_norm(self.depthwise(self.conv(images)))))
        rows = self.one_dimensional(pixels.flatten(2) + self.position)
        rows = rows + self.norm(self.second(functional.relu(self.first(rows))))
        columns = rows.transpose(1, 2)
        attended = columns + self.attention(columns, columns, columns)[0]
        return self.out(self.dropout(attended).flatten(1))


@pytest.mark.parametrize("quantizer", ["lsq", "dorefa"])  # wrpn makes zeros of untrained weights
def test_a_network_of_ones_own(live: Callable[..., Any], quantizer: str) -> None:
    torch.manual_seed(0)
    fast = torch.backends.mha.get_fastpath_enabled()
    retraining = live(pretrained=with_network(Unusual(), DIGITS), quantizer=quantizer, retrain_images=320)
    assignments = [(2, 3, 4, 5, 6, 7), (8, 7, 6, 5, 4, 3), (4,) * 6]
    expected = alone(retraining, assignments)
    assert accuracies(retraining, assignments) == pytest.approx(expected, abs=CLOSE)
    assert len(set(expected)) == 3
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.layer(images.flatten(1))
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_cannot_be_stacked_is_said(live: Callable[..., Any]) -> None:
    retraining = live(pretrained=with_network(Branching(), DIGITS))
    with pytest.raises(
        ReLeQError, match='Branching cannot be evaluated as a stack.*use parallel="processes"'
    ) as raised:
        accuracies(retraining, [(2,), (3,)])
    assert "\n" not in str(raised.value)


# Divergence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_a_diverging_candidate_leaves_its_neighbours_alone(live: Callable[..., Any], value: float) -> None:
    retraining = live()
    data = retraining.load()

    def measured(broken: bool) -> list[float]:
        stack = Stack(retraining, MIXED["lsq"])
        if broken:
            with torch.no_grad():
                stack._stacks["conv2.weight"][1] = value
        retraining.descend(stack.groups, stack.loss, data, 0, stack.slowed)
        return stack.accuracies(data)

    expected, found = measured(False), measured(True)
    assert 0.0 <= found[1] < 0.5 < expected[1]
    assert found[:1] + found[2:] == expected[:1] + expected[2:]


@pytest.mark.parametrize(
    ("quantizer", "precision"), [*((quantizer, "fp32") for quantizer in QUANTIZERS), ("lsq", "bf16")]
)
def test_divergence_is_a_low_accuracy(live: Callable[..., Any], quantizer: str, precision: str) -> None:
    recipe = RetrainingRecipe(images=320, batch_size=32, learning_rate=1e18)
    retraining = live(replace(DIGITS, retraining=recipe), quantizer=quantizer, precision=precision, retrain_images=320)
    found = accuracies(retraining, [*MIXED[quantizer], (2, 2, 2, 2)])
    assert all(0.0 <= accuracy < 0.5 for accuracy in found + alone(retraining, MIXED[quantizer]))


# The pool


def spied(monkeypatch: pytest.MonkeyPatch, fits: Callable[[int], bool] = lambda count: True) -> list[int]:
    """Note the sizes of the stacks; those that do not fit run out of memory."""
    sizes: list[int] = []
    original = stacked.measure_stack

    def measure_stack(retraining: Any, assignments: Any, *args: Any) -> list[float]:
        sizes.append(len(assignments))
        if not fits(len(assignments)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(retraining, assignments, *args)

    monkeypatch.setattr(stacked, "measure_stack", measure_stack)
    return sizes


def distinct(count: int) -> list[tuple[int, ...]]:
    return [(2 + k % 7, 2 + k // 7, 2, 2) for k in range(count)]


def test_stacks_are_of_equal_size_and_yielded_when_they_are_done(
    live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StackedPool, "_fitting", lambda self: 4)
    sizes = spied(monkeypatch)
    waiting = Waiting(distinct(9))
    pool = StackedPool(live())
    results = pool.measure(waiting, 0)
    first, (_, seconds) = next(results)
    assert first == (2, 2, 2, 2)
    assert len(waiting) == 6  # an assignment is taken when it is begun
    rest = dict(results)
    assert [first, *rest] == distinct(9)
    assert sizes == [3, 3, 3]
    assert seconds > 0
    assert len({second for _, second in rest.values()} - {seconds}) == 2  # shares of the other two
    pool.close()
    pool.close()
    assert dict(pool.measure(Waiting(distinct(1)), 0))


def test_nothing_to_measure(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = spied(monkeypatch)
    assert list(StackedPool(live()).measure(Waiting([]), 0)) == []
    assert sizes == []


def test_some_turn_out_to_need_no_measuring(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = spied(monkeypatch)

    waiting = Waiting(distinct(6), found=lambda assignment: assignment[0] > 3)
    assert [assignment for assignment, _ in StackedPool(live()).measure(waiting, 0)] == distinct(2)
    assert sizes[-1] == 2


def test_out_of_memory_halves_the_stack_and_loses_nothing(
    live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    retraining = live()
    expected = accuracies(retraining, distinct(8))
    monkeypatch.setattr(StackedPool, "_fitting", lambda self: 8)
    sizes = spied(monkeypatch, fits=lambda count: count <= 2)
    pool = StackedPool(retraining)
    results = list(pool.measure(Waiting(distinct(8)), 0))
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert len(results) == 8
    found = dict(results)
    assert [found[assignment][0] for assignment in distinct(8)] == pytest.approx(expected, abs=CLOSE)
    sizes.clear()
    list(pool.measure(Waiting(distinct(4)), 0))
    assert sizes == [2, 2]  # it is remembered


def test_out_of_memory_later_keeps_what_is_finished(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedPool, "_fitting", lambda self: 3)
    calls: list[int] = []
    sizes = spied(monkeypatch, fits=lambda count: calls.append(count) or len(calls) == 1 or count == 1)
    results = list(StackedPool(live()).measure(Waiting(distinct(6)), 0))
    assert sizes == [3, 3, 1, 1, 1]
    assert [assignment for assignment, _ in results] == distinct(6)


def test_out_of_memory_for_one_is_an_error(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spied(monkeypatch, fits=lambda count: False)
    with pytest.raises(ReLeQError, match="too little free memory for one evaluation"):
        list(StackedPool(live()).measure(Waiting(distinct(3)), 0))


@pytest.mark.parametrize(
    ("free", "most", "expected"), [(10_000, None, 8), (10_000, 3, 3), (1500, None, 1), (10**6, None, 128)]
)
def test_k_is_fitted_to_the_memory_of_a_gpu(
    live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, free: int, most: int | None, expected: int
) -> None:
    retraining = live()
    retraining.load()
    retraining.device = torch.device("cuda")
    peak = [0]

    def measure_stack(retraining: ShortRetraining, assignments: list[Any], *args: Any) -> list[float]:
        assert retraining.retrain_images == 32  # one batch
        peak[0] = 500 + 1000 * len(assignments)
        return [0.0] * len(assignments)

    monkeypatch.setattr(stacked, "measure_stack", measure_stack)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert StackedPool(retraining, most)._fitting() == expected


def test_k_is_fitted_to_the_memory_of_the_machine(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = StackedPool(live(retrain_images=1600))
    footprint = pool._footprint()
    largest = 32 * 16 * 8 * 8 * 4  # what conv1 makes of a batch, in bytes: only one of what is kept
    assert 2 * largest < footprint < 100 * largest
    assert pool._fitting() == 8
    monkeypatch.setattr(StackedPool, "_room", lambda self: 3 * footprint + 1)
    assert pool._fitting() == 3
    monkeypatch.setattr(StackedPool, "_room", lambda self: 1)
    assert pool._fitting() == 1


def test_k_is_fitted_without_the_metric(live: Callable[..., Any]) -> None:
    def metric(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        raise AssertionError("it may need all of validation")

    assert StackedPool(live(replace(DIGITS, metric=metric)))._fitting() == 8


def test_the_number_of_threads_is_the_callers(live: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []
    original = Stack.accuracies
    monkeypatch.setattr(Stack, "accuracies", lambda *args: inside.append(torch.get_num_threads()) or original(*args))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        next(StackedPool(live()).measure(Waiting(distinct(2)), 0))
        assert torch.get_num_threads() == 2
        assert set(inside) == {1}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "8"], ids=repr)
def test_a_k_that_is_none(live: Callable[..., Any], most: Any) -> None:
    with pytest.raises(ReLeQError, match="whole number from 1"):
        StackedPool(live(), most)


@pytest.mark.parametrize("bits", [(2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 2, 9), (0, 2, 2, 2)], ids=repr)
def test_assignments_that_are_none(live: Callable[..., Any], bits: tuple[int, ...]) -> None:
    with pytest.raises(ReLeQError, match="^the assignment"):
        accuracies(live(), [(2, 2, 2, 2), bits])
    with pytest.raises(ReLeQError, match="^the assignment"):
        accuracies(live(), [bits])


# From end to end


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu(live: Callable[..., Any], quantizer: str, precision: str) -> None:
    retraining = live(quantizer=quantizer, precision=precision, retrain_images=320, device="cuda")
    pool = StackedPool(retraining)
    measured = dict(pool.measure(Waiting(MIXED[quantizer]), 0))
    differences = torch.tensor([measured[assignment][0] for assignment in MIXED[quantizer]]) - torch.tensor(
        alone(retraining, MIXED[quantizer])
    )
    assert differences.abs().mean() < 0.01
    assert 1 <= pool.size <= 128


def test_as_a_source(live: Callable[..., Any]) -> None:
    source = live_source("digits", parallel="stacked", retrain_images=64, precision="fp32", retrain_seed=5)
    assert source.fingerprint is not None
    assert source.fingerprint["parallel"] == "stacked"
    evaluator = Evaluator(source)
    found = evaluator.evaluate_many([*MIXED["lsq"], MIXED["lsq"][0]])
    assert [result.bitwidths for result in found] == [*MIXED["lsq"], MIXED["lsq"][0]]
    expected = alone(live(), MIXED["lsq"], seed=5)
    assert [result.accuracy for result in found[:-1]] == pytest.approx(expected, abs=CLOSE)
    assert evaluator.retrained == len(MIXED["lsq"])
    assert pickle.loads(pickle.dumps(evaluator)).evaluate(MIXED["lsq"][0]).accuracy == pytest.approx(
        expected[0], abs=CLOSE
    )
    evaluator.close()


def test_gym_make(live: Callable[..., Any]) -> None:
    env = gym.make("releq_env:ReLeQ-Digits-v0", parallel="stacked", cache=None, retrain_images=32, precision="fp32")
    env.reset(seed=0)
    for _ in range(4):
        *_, terminated, _, info = env.step(1)
    assert terminated
    assert bits_of(info) == (2, 2, 2, 2)
    assert info["accuracy"] == pytest.approx(live(retrain_images=32).measure((2, 2, 2, 2))[0], abs=CLOSE)
    env.close()


def test_a_quantizer_without_a_stacked_form_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTIZERS, "mine", replace(QUANTIZERS["wrpn"], stacked=None))
    message = "the quantizer 'mine' cannot be stacked; use parallel=\"processes\", or one of: lsq, wrpn, dorefa"
    with pytest.raises(ReLeQError, match=message):
        live_source("digits", quantizer="mine", parallel="stacked")
    with pytest.raises(ReLeQError, match=message):
        LiveSource(live_source("digits", quantizer="mine").retraining, "stacked")


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (functional.softmax(outputs, dim=1) - functional.one_hot(targets, 10)).abs().sum(dim=1).mean()


def first_class(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(dim=1) == 0).float().mean())


def test_loss_and_metric_are_the_tasks(live: Callable[..., Any]) -> None:
    task = replace(DIGITS, loss=absolute, metric=first_class)
    retraining = live(task, retrain_images=320)
    found = accuracies(retraining, MIXED["lsq"])
    assert found == pytest.approx(alone(retraining, MIXED["lsq"]), abs=CLOSE)
    by_loss = [
        accuracies(live(replace(DIGITS, loss=loss), retrain_images=320), MIXED["lsq"])
        for loss in (absolute, functional.cross_entropy)
    ]
    assert by_loss[0] != by_loss[1]
    assert max(found) < 0.2  # a tenth of the images is of the first class


def test_a_metric_that_is_no_accuracy_stays_one_line(live: Callable[..., Any]) -> None:
    with pytest.raises(ReLeQError, match="^the metric of digits has given 7.5"):
        accuracies(live(replace(DIGITS, metric=lambda outputs, targets: 7.5)), MIXED["lsq"])
