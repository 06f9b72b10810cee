"""Each proxy is what its definition says, computed in another way."""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from releq_env import Problem, ReLeQError
from releq_env.evaluation.grouped import GroupedSource
from releq_env.evaluation.live import LiveSource
from releq_env.quantization import QUANTIZERS, quantizable_layers
from releq_env.retraining.short import ShortRetraining
from releq_env.sensitivity import PROXIES, TRAINING_FREE, hessian, measure_sensitivities
from releq_env.sensitivity.measure import measured
from releq_env.sensitivity.probe import Probe
from releq_env.tables.sensitivities import parse
from releq_env.tasks import TASKS, Pretrained
from tests.fakes import digits_problem, random_dataset

CHOICES = ((1, 2, 4), (2, 8))


class Net(nn.Module):
    """A convolution with batch normalisation, and a linear layer; smooth, so that it can be differentiated twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, bias=False)
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.fc = nn.Linear(108, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.norm(self.conv(images))).flatten(1))


def retraining(network: nn.Module, quantizer: str = "lsq", precision: str = "fp32", **task: Any) -> ShortRetraining:
    dataset = random_dataset()
    made = dataclasses.replace(TASKS["digits"], name="own", network=lambda: network, dataset=dataset, **task)
    network.eval()
    layers = quantizable_layers(network, dataset.input_shape)
    return ShortRetraining(made, Pretrained(network, layers, 0.5, "none", dataset.input_shape), quantizer, 0,
                           precision=precision)  # fmt: skip


@pytest.fixture
def net() -> Iterator[Net]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield Net()


def examples(live: ShortRetraining) -> tuple[Tensor, Tensor]:
    data = live.load()
    return data.inputs.float(), data.targets


def error(weight: Tensor, bits: int) -> Tensor:
    with torch.no_grad():
        return QUANTIZERS["lsq"].make(weight, bits)(weight) - weight


def test_fisher_is_the_squared_gradient_of_each_image(net: Net) -> None:
    live = retraining(net)
    inputs, targets = examples(live)
    expected = []
    for layer, of_layer in zip((net.conv, net.fc), CHOICES, strict=True):
        squares = torch.zeros_like(layer.weight)
        for image, target in zip(inputs, targets, strict=True):
            loss = nn.functional.cross_entropy(net(image[None]), target[None])
            squares += torch.autograd.grad(loss, layer.weight)[0] ** 2 / len(inputs)
        expected.append([float((squares * error(layer.weight, bits) ** 2).sum() / 2) for bits in of_layer])
    found = measured(LiveSource(live), CHOICES, ["fisher"], images=1000).proxies["fisher"]
    assert found.values[0] == pytest.approx(expected[0], rel=1e-4)
    assert found.values[1] == pytest.approx(expected[1], rel=1e-4)
    count = len(inputs)
    assert (found.cost.images, found.cost.forward, found.cost.backward) == (count, count, count)


def test_hessian_is_hutchinsons_mean_of_the_diagonal(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hessian, "_VECTORS", 400)
    live = retraining(net)
    inputs, targets = examples(live)

    def loss(weight: Tensor) -> Tensor:
        outputs = torch.func.functional_call(net, {"conv.weight": weight}, (inputs,))
        return nn.functional.cross_entropy(outputs, targets)

    exact = torch.autograd.functional.hessian(loss, net.conv.weight.detach()).reshape(27, 27)
    mean = float(exact.diagonal().mean())
    expected = [mean * float((error(net.conv.weight, bits) ** 2).sum()) for bits in CHOICES[0]]
    found = measured(LiveSource(live), CHOICES, ["hessian"], images=1000).proxies["hessian"]
    assert mean > 0
    assert found.values[0] == pytest.approx(expected, rel=0.2)
    ratios = [value / known for value, known in zip(found.values[0], expected, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-4)  # one trace for all
    assert (found.cost.forward, found.cost.backward) == (400 * len(inputs), 800 * len(inputs))


def test_loss_is_that_of_the_network_with_one_layer_quantized(net: Net) -> None:
    live = retraining(net)
    inputs, targets = examples(live)

    def loss_with(layer: str | None, bits: int = 8) -> float:
        network = copy.deepcopy(net)
        if layer is not None:
            weight = network.get_submodule(layer).weight
            weight.data += error(weight.data, bits)
        network.norm.reset_running_stats()
        network.norm.momentum = None
        network.norm.train()
        with torch.no_grad():
            network(inputs)
            return float(nn.functional.cross_entropy(network.eval()(inputs), targets))

    found = measured(LiveSource(live), CHOICES, ["loss"], images=1000).proxies["loss"]
    for name, row, of_layer in zip(("conv", "fc"), found.values, CHOICES, strict=True):
        expected = [loss_with(name, bits) - loss_with(None) for bits in of_layer]
        assert row == pytest.approx(expected, abs=2e-5)
    assert found.cost.forward == len(inputs) * (1 + 5)


def test_alone_is_ordinary_evaluations_of_one_layer_at_a_time() -> None:
    problem = digits_problem(bitwidths=[2, 4, 8])
    from releq_env.sensitivity.alone import alone

    found = alone(problem)
    assert problem.evaluator.distinct_evaluations == 9 == found.cost.evaluations
    full = problem.evaluator.evaluate((8, 8, 8, 8)).accuracy
    assert found.values[2] == (
        full - problem.evaluator.evaluate((8, 8, 2, 8)).accuracy,
        full - problem.evaluator.evaluate((8, 8, 4, 8)).accuracy,
        0.0,
    )
    assert found.cost.seconds == 2.0 * 9


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_any_quantizer_and_what_the_process_has_set_changes_nothing(net: Net, quantizer: str) -> None:
    choices = ((2, 4), (2, 8))
    first = measured(LiveSource(retraining(net, quantizer)), choices, TRAINING_FREE, images=20)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(7)
    try:
        with torch.no_grad():
            again = measured(
                LiveSource(retraining(net, quantizer, precision="bf16")), choices, TRAINING_FREE, images=20
            )
    finally:
        torch.set_num_threads(threads)
    for name in TRAINING_FREE:
        assert first.proxies[name].cost.images == 20
        for row, other in zip(first.proxies[name].values, again.proxies[name].values, strict=True):
            assert row == pytest.approx(other, rel=0.05, abs=1e-3)  # of the inputs, which bf16 rounds
    same = measured(LiveSource(retraining(net, quantizer)), choices, TRAINING_FREE, images=20)
    assert [each.values for each in same.proxies.values()] == [each.values for each in first.proxies.values()]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


def test_a_task_of_ones_own_with_its_own_loss() -> None:
    """Regression, one layer whose weight is computed (weight normalisation), and shared by two calls."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.utils.parametrizations.weight_norm(nn.Linear(64, 64))
            self.last = nn.Linear(64, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(self.first(images.flatten(1)))))

    def squares(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - nn.functional.one_hot(targets, 10)) ** 2).mean()

    live = retraining(Twice(), loss=squares)
    found = measured(LiveSource(live), CHOICES, TRAINING_FREE, images=30)
    for name in ("fisher", "hessian"):
        assert all(row[0] > row[-1] >= 0.0 for row in found.proxies[name].values)


def test_what_cannot_be_differentiated_twice_is_said() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError("not implemented")
            return grads[0]

    class Odd(Net):
        def forward(self, images: Tensor) -> Tensor:
            return Once.apply(super().forward(images))

    with pytest.raises(ReLeQError, match=r"cannot be differentiated twice .*; leave out hessian"):
        measured(LiveSource(retraining(Odd())), CHOICES, ["hessian"], images=10)


def test_a_built_in_task_and_its_record(tmp_path: Path) -> None:
    problem = Problem.from_task("digits", bitwidths=[2, 4, 8], cache=None, retrain_images=0, workers=1)
    found = measure_sensitivities(problem, [*TRAINING_FREE, "alone"], images=64)
    assert list(found.proxies) == [*TRAINING_FREE, "alone"] == list(PROXIES)
    assert parse(found.as_dict(), 4) == found
    assert found.matrix("loss", problem.choices).shape == (4, 3)
    assert found.proxies["alone"].cost.evaluations == problem.evaluator.distinct_evaluations == 9
    for name in ("fisher", "hessian"):
        assert (found.matrix(name, problem.choices)[:, 0] > found.matrix(name, problem.choices)[:, 2]).all()


def test_layers_that_share_a_bitwidth_are_added_up(net: Net) -> None:
    live = LiveSource(retraining(net))
    apart = measured(live, ((2, 4), (2, 4)), ["fisher"], images=20).proxies["fisher"].values
    together = measured(GroupedSource(live, [(0, 1)], live.layers[:1]), ((2, 4),), ["fisher"], images=20)
    assert together.proxies["fisher"].values == (tuple(map(sum, zip(*apart, strict=True))),)


def test_more_layers_than_decisions_are_refused(net: Net) -> None:
    with pytest.raises(ReLeQError, match="own has 2 layers for 1 bitwidths to choose"):
        Probe(retraining(net), ((2, 4),), images=10)


def test_problems_without_a_network_and_unknown_proxies_are_refused() -> None:
    with pytest.raises(ReLeQError, match="digits has no network to measure sensitivities of; give them"):
        measure_sensitivities(digits_problem())
    problem = Problem.from_task("digits", cache=None, retrain_images=0)
    with pytest.raises(ReLeQError, match="unknown proxy 'magic'; choose one of: loss, fisher, hessian, alone"):
        measure_sensitivities(problem, ["magic"])


def test_one_of_ones_own(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    from releq_env.sensitivity.registry import ProxyEntry

    def spread(probe: Probe) -> Any:
        return probe.proxy([[float(e.abs().max()) for e in probe.errors(layer)] for layer in range(2)], 0.0)

    monkeypatch.setitem(PROXIES, "spread", ProxyEntry(spread, "largest error", "here"))
    found = measured(LiveSource(retraining(net)), CHOICES, ["spread"], images=5)
    assert found.proxies["spread"].values[1][0] == pytest.approx(float(error(net.fc.weight, 2).abs().max()))
