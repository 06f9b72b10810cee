"""A network of one's own becomes a problem, or is refused by name."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import releq_env
from releq_env import Problem, ReLeQError
from releq_env.tasks import PretrainingRecipe, RetrainingRecipe
from releq_env.tasks.task import top1_accuracy
from tests.tasks.own_networks import CASES, COUNT, Case, two_losses, two_metrics

RECIPE = RetrainingRecipe(images=32, batch_size=16)
PLAIN = CASES["lambdas"]


def problem_of(case: Case, **arguments: Any) -> Problem:
    model, training, validation = case.made()
    fixed = {"retraining": RECIPE, "workers": 1, "precision": "fp32"}
    return Problem.from_network(model, training, validation, **(fixed | case.arguments | arguments))


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_searched_and_packed(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, _, validation = case.made()
    before = copy.deepcopy(model.state_dict())
    problem = problem_of(case)
    assert tuple(layer.name for layer in problem.layers) == case.layers
    assert problem.own is not None
    assert set(case.left_out) == set(problem.own.left_out)
    result = releq_env.search(problem, budget=3, method="random", progress=False)
    assert len(result.evaluations) == problem.evaluator.retrained == 3
    result.save(tmp_path)
    restored = releq_env.load_packed(tmp_path / "network.safetensors", model)
    with torch.no_grad():
        for mine, theirs in zip(_flat(restored(validation[0])), _flat(result.network(validation[0])), strict=True):
            assert torch.equal(mine, theirs)
    for layer in problem.layers:  # at most as many values as the bits allow
        weight = restored.get_submodule(layer.name).weight
        row = weight.reshape(len(weight), -1)[0]
        assert len(row.unique()) <= 2 ** result.assignment[layer.name]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def _flat(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def test_an_accuracy_is_what_the_saved_network_has() -> None:
    model, training, validation = PLAIN.made()
    problem = Problem.from_network(
        model, training, validation, retraining=RECIPE, workers=1, precision="fp32", cache=None
    )
    result = releq_env.search(problem, budget=3, progress=False)
    with torch.no_grad():
        right = (result.network(validation[0]).argmax(1) == validation[1]).float().mean()
    assert result.best.accuracy == pytest.approx(float(right), abs=1.5 / COUNT)
    assert problem.full_precision_accuracy == 1.0


def test_the_same_network_and_data_find_what_was_measured() -> None:
    first, again = problem_of(CASES["signals"]), problem_of(CASES["signals"])
    assert first.evaluator.evaluate((2, 2)) == again.evaluator.evaluate((2, 2))
    assert (first.evaluator.retrained, again.evaluator.retrained) == (1, 0)
    model, training, validation = CASES["signals"].made()
    changed = training[0].clone()
    changed[0, 0, 0] += 1.0
    other = Problem.from_network(model, (changed, training[1]), validation, retraining=RECIPE, workers=1)
    other.evaluator.evaluate((2, 2))
    assert other.evaluator.retrained == 1


def test_own_functions_without_a_key_are_kept_in_memory_only(capsys: pytest.CaptureFixture[str]) -> None:
    for retrained in (1, 1):
        problem = problem_of(CASES["two outputs"], cache_key=None)
        problem.evaluator.evaluate((2, 2, 2))
        assert problem.evaluator.retrained == retrained
    assert "kept in memory only" in capsys.readouterr().err


def test_a_problem_goes_to_another_process_with_its_data() -> None:
    problem = problem_of(CASES["shared weights"], cache=None)
    other = pickle.loads(pickle.dumps(problem))
    assert other.evaluator.evaluate((3, 3, 3, 3)).accuracy == problem.evaluator.evaluate((3, 3, 3, 3)).accuracy


def test_weights_that_modules_share_are_quantized_once() -> None:
    problem = problem_of(CASES["shared weights"], cache=None)
    into = problem.layers[2]
    assert (into.weights, into.macs) == (256, 512)
    network = releq_env.search(problem, budget=1, progress=False).network
    assert torch.equal(network.into.weight, network.back.weight)


def test_the_output_projection_of_attention_is_really_quantized() -> None:
    problem = problem_of(CASES["attention"], cache=None)
    result = releq_env.search(problem, budget=1, progress=False)
    ids = torch.arange(12).reshape(2, 6)
    fine = result.network_of((8, 8, 8, 8, 8))(ids)
    coarse = result.network_of((8, 1, 8, 8, 8))(ids)
    assert (fine - coarse).norm() > 0.01 * fine.norm()


def test_groups_are_one_decision() -> None:
    problem = problem_of(CASES["shared weights"], groups={"middle": ["twice", "into"]}, cache=None)
    single = problem_of(CASES["shared weights"], cache=None)
    assert [layer.name for layer in problem.layers] == ["first", "middle", "out"]
    assert problem.layers[1].weights == single.layers[1].weights + single.layers[2].weights
    assert problem.size_in_bytes((2, 3, 4)) == single.size_in_bytes((2, 3, 3, 4))
    assert problem.by_module((2, 3, 4)) == {"first": 2, "twice": 3, "into": 3, "out": 4}
    both = problem.evaluator.evaluate_many([(2, 3, 4), (1, 1, 4)])
    expected = single.evaluator.evaluate_many([(2, 3, 3, 4), (1, 1, 1, 4)])
    assert [each.accuracy for each in both] == [each.accuracy for each in expected]
    assert [each.bitwidths for each in both] == [(2, 3, 4), (1, 1, 4)]


def test_groups_do_not_share_what_is_cached_with_single_layers() -> None:
    case = CASES["signals"]
    problem_of(case).evaluator.evaluate((2, 2))
    grouped = problem_of(case, groups=[["0", "4"]])
    assert grouped.layers[0].name == "0+4"
    grouped.evaluator.evaluate((2,))
    assert grouped.evaluator.retrained == 1


def test_layers_to_skip_stay_in_full_precision() -> None:
    problem = problem_of(CASES["attention"], skip=["block", "words"], cache=None)
    assert [layer.name for layer in problem.layers] == ["out"]
    assert problem.own is not None
    assert problem.own.left_out["block.linear1"] == "is to be skipped"
    assert problem_of(PLAIN, bitwidths={"0": [2, 4]}).choices == ((2, 4), tuple(range(1, 9)))


def test_a_network_is_trained_first_where_a_recipe_is_given() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 8)
    data = inputs[:300], inputs[:300, :3].argmax(1)
    validation = inputs[300:], inputs[300:, :3].argmax(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    recipe = PretrainingRecipe(epochs=5, batch_size=16)
    trained = Problem.from_network(model, data, validation, pretraining=recipe, retraining=RECIPE)
    plain = Problem.from_network(model, data, validation, retraining=RECIPE)
    assert trained.full_precision_accuracy > 0.85 > plain.full_precision_accuracy


def test_weights_that_modules_share_are_trained_first_too() -> None:
    case = CASES["shared weights"]
    recipe = PretrainingRecipe(epochs=1, batch_size=16)
    first, again = (problem_of(case, pretraining=recipe) for _ in range(2))
    assert again.full_precision_accuracy == first.full_precision_accuracy
    network = releq_env.search(again, budget=1, progress=False).network
    assert torch.equal(network.into.weight, network.back.weight)


def test_a_network_of_token_ids_is_trained_first_too() -> None:
    recipe = PretrainingRecipe(epochs=1, batch_size=16)
    first, again = (problem_of(CASES["attention"], pretraining=recipe) for _ in range(2))
    assert [layer.name for layer in first.layers] == list(CASES["attention"].layers)
    assert again.evaluator.fingerprint == first.evaluator.fingerprint  # the second one is read from the cache


def test_what_was_found_is_found_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first = problem_of(PLAIN, retraining=None, seconds=0.2)
    from releq_env.evaluation import own

    monkeypatch.setattr(own, "find_recipe", lambda *arguments: pytest.fail("it was found before"))
    again = problem_of(PLAIN, retraining=None, seconds=0.2)
    assert first.own is not None
    assert again.own == first.own
    assert first.own.recipe == first.own.found.recipe
    assert 1 <= len(first.own.found.tried) <= 6
    lines = [line for line in capsys.readouterr().err.splitlines() if "learning rate" in line]
    assert len(lines) == 2


class WithOddParts(nn.Module):
    """What cannot be quantized: a recurrent layer, a plain parameter, a Linear that computes on its own."""

    class Stubborn(nn.Linear):
        def __init__(self) -> None:
            super().__init__(8, 8)
            self.kept = self.weight.detach().clone()

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.kept)

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.stubborn, self.out = nn.GRU(8, 8, batch_first=True), self.Stubborn(), nn.Linear(8, 3)
        self.table = nn.Parameter(torch.zeros(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stubborn(self.recurrent(x)[0][:, -1]) + self.table.sum(0))


def test_what_is_left_out_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    problem = problem_of(Case(WithOddParts, (5, 8), ("out",)), cache=None)
    assert problem.own is not None
    assert set(problem.own.left_out) == {
        "stubborn", "table", "recurrent.weight_ih_l0", "recurrent.weight_hh_l0",
    }  # fmt: skip
    assert "does not compute with its weight" in problem.own.left_out["stubborn"]
    assert "GRU" in problem.own.left_out["recurrent.weight_ih_l0"]
    assert "stubborn (a Stubborn does not" in capsys.readouterr().err


def regression(**arguments: Any) -> Problem:
    return problem_of(CASES["regression"], **arguments)


def plain(**arguments: Any) -> Problem:
    return problem_of(PLAIN, **arguments)


def network(model: nn.Module, inputs: tuple[int, ...] = (8,), **arguments: Any) -> Problem:
    data = torch.zeros(10, *inputs), torch.arange(10) % 2
    other = torch.ones(10, *inputs), torch.arange(10) % 2
    return Problem.from_network(model, data, other, retraining=RECIPE, **arguments)


class Unread(torch.utils.data.Dataset[Any]):
    """Data that nothing may read: reading them takes long."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        pytest.fail("the data were read before the arguments had been checked")


def unread(**arguments: Any) -> Problem:
    return Problem.from_network(nn.Sequential(nn.Linear(8, 2)), Unread(), Unread(), retraining=RECIPE, **arguments)


class Uncopied(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 2)
        self.computed = self.weight * 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regression(loss=None, metric=None), "are not those of a classifier.*give loss= and metric="),
        (lambda: regression(metric=None), "loss= was given without metric="),
        (lambda: regression(metric=lambda outputs, targets: 7.0), r"gives 7 for Sequential.*in \(0, 1\]"),
        (lambda: regression(metric=lambda outputs, targets: -1.0), r"gives 0 for Sequential.*in \(0, 1\]"),
        (lambda: regression(metric=lambda outputs, targets: 1 / 0), "metric= fails .ZeroDivisionError"),
        (lambda: regression(loss=lambda outputs, targets: 1.0), "loss= gives 1.0; let it return one number"),
        (lambda: regression(loss=lambda outputs, targets: outputs), "loss= gives tensor"),
        (lambda: problem_of(CASES["two outputs"], loss=None, metric=None), "are not those of a classifier"),
        (lambda: problem_of(CASES["two outputs"], loss=two_metrics, metric=two_losses), "loss= "),
        (lambda: plain(skip=["nowhere"]), "skip names 'nowhere', which the network has not"),
        (lambda: plain(skip=["0", "2"]), "no quantizable layer|can be quantized"),
        (lambda: plain(groups=["0"]), "groups has '0'; give lists"),
        (lambda: plain(groups=[["0", "1"]]), "groups has '1', which is no layer; there are 0, 2"),
        (lambda: plain(groups={"a": ["0", "2"], "b": ["2", "0"]}), "groups has '2' twice|groups has '0' twice"),
        (lambda: plain(groups={"2": ["0", "2"]}), "a name that is a layer's, too"),
        (lambda: plain(bitwidths=[9]), "has 9, which lsq does not support"),
        (lambda: plain(quantizer="none"), "unknown quantizer 'none'"),
        (lambda: plain(seconds=0), "seconds=0 is not accepted"),
        (lambda: plain(retraining=5), "retraining=5 is no recipe"),
        (lambda: plain(pretraining=5), "pretraining=5 is no recipe"),
        (lambda: plain(max_cost=0.01), "max_cost=0.01 cannot be met"),
        (lambda: unread(loss="mse"), "loss='mse' is no function"),
        (lambda: unread(distillation=0.5), "distillation=0.5 is no function"),
        (lambda: unread(name=7), "name=7 is not accepted; give a text"),
        (lambda: unread(cache_key=("mse", 1)), "cache_key=.'mse', 1. is not accepted; give a text"),
        (lambda: unread(skip=7), "skip=7 is not accepted; give a list of names"),
        (lambda: unread(skip=[7]), "skip=.7. is not accepted; give a list of names"),
        (lambda: RetrainingRecipe(images=8, learning_rate=-1.0), "learning_rate=-1.0 is not accepted; give a number"),
        (lambda: RetrainingRecipe(images=8, distillation=float("nan")), "distillation=nan is not accepted"),
        (lambda: PretrainingRecipe(epochs=1, learning_rate="fast"), "learning_rate='fast' is not accepted"),
        (lambda: PretrainingRecipe(epochs=1, weight_decay=-1), "weight_decay=-1 is not accepted"),
        (lambda: plain(data_limit=-1), "data_limit=-1 is not accepted; give a number of GB"),
        (lambda: plain(name="a/b"), "'a/b' is not a file's name"),
        (lambda: problem_of(CASES["shared weights"], skip=["back"]), "same weight as 'into'; skip both"),
        (lambda: problem_of(CASES["shared weights"], parallel="stacked"), 'parallel="stacked" knows no weights'),
        (lambda: network(nn.Linear(8, 2)), "the whole network; put it into an nn.Sequential"),
        (lambda: network(nn.Sequential(nn.Linear(7, 2))), r"cannot be run on an input of shape \(8,\)"),
        (
            lambda: network(nn.Sequential(nn.Linear(8, 2)).double()),
            "parameters of type torch.float64; give model.float",
        ),
        (lambda: network(nn.Sequential(nn.LazyLinear(2))), "has no shape yet; run the network once before"),
        (lambda: network(nn.Sequential(nn.Flatten(0), nn.Linear(8, 2))), "cannot be run on 4 inputs at once"),
        (lambda: network(Uncopied()), "Uncopied cannot be copied"),
        (lambda: network(nn.Sequential(nn.GRU(8, 2))), "no quantizable layer"),
        (lambda: network("LeNet"), "model='LeNet' is no network"),
    ],
    ids=range(43),
)
def test_what_is_not_accepted_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_lambdas_go_on_in_one_process() -> None:
    model, training, validation = PLAIN.made()
    problem = Problem.from_network(model, training, validation, retraining=RECIPE, cache=None)
    source: Any = problem.evaluator.source
    with pytest.warns(UserWarning, match="going on in this process alone.*cannot be sent to worker processes"):
        source._made_pool()._here = [100.0, 100.0]  # as if it were slow
        problem.evaluator.evaluate_many([(1, 1), (2, 2), (3, 3)])
    assert problem.evaluator.retrained == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu() -> None:
    model, training, validation = CASES["signals"].made()
    problem = Problem.from_network(model.cuda(), training, validation, device="cuda", retraining=RECIPE, cache=None)
    result = releq_env.search(problem, budget=3, progress=False)
    assert 0.0 < result.best.accuracy <= 1.0
    assert next(result.network.parameters()).device.type == "cpu"


def test_a_network_is_taken_in_the_inference_mode_of_its_caller() -> None:
    with torch.inference_mode():
        problem = problem_of(PLAIN, cache=None)
        assert 0.0 <= problem.evaluator.evaluate(problem.uniform()[-1]).accuracy <= 1.0


class Masked(nn.Module):
    """The mean over what is no padding."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.embed, self.out, self.padding = nn.Embedding(8, 6), nn.Linear(6, 2), padding

    def forward(self, ids: Tensor) -> Tensor:
        kept = (ids != self.padding).unsqueeze(-1).float()
        return self.out((self.embed(ids) * kept).sum(1) / kept.sum(1).clamp(min=1.0))


def test_what_a_few_inputs_do_not_tell_is_told_by_the_accuracy() -> None:
    torch.manual_seed(0)
    one, other = Masked(7), Masked(0)
    other.load_state_dict(one.state_dict())
    ids = torch.randint(1, 7, (200, 5))
    ids[4:, :3] = torch.where(torch.rand(196, 3) < 0.6, 0, ids[4:, :3])
    with torch.no_grad():
        targets = other(ids).argmax(1)
    problems = [
        Problem.from_network(each, (ids[:100], targets[:100]), (ids[100:], targets[100:]), retraining=RECIPE, workers=1)
        for each in (one, other)
    ]
    assert problems[0].full_precision_accuracy < problems[1].full_precision_accuracy == 1.0
    for problem in problems:
        problem.evaluator.evaluate((8, 8))
        assert problem.evaluator.retrained == 1  # of neither the other's is taken


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        chosen = inputs[:, 0].long().clamp(0, 2)
        outputs = inputs.new_zeros(len(inputs), 3)
        for index, expert in enumerate(self.experts):
            if (rows := chosen == index).any():
                outputs[rows] = expert(inputs[rows])
        return outputs


def test_layers_that_the_first_example_does_not_reach_are_found() -> None:
    inputs = torch.rand(60, 4)
    inputs[:, 0] = torch.arange(60) % 3
    targets = torch.arange(60) % 3
    data = (inputs[:30], targets[:30]), (inputs[30:], targets[30:])
    problem = Problem.from_network(Experts(), *data, retraining=RECIPE, workers=1, cache=None)
    assert [layer.name for layer in problem.layers] == ["experts.0", "experts.1", "experts.2"]
    assert {layer.macs for layer in problem.layers} == {4}  # each a third of the inputs, 12 each
    skipped = Problem.from_network(Experts(), *data, retraining=RECIPE, workers=1, cache=None, skip="experts.1")
    assert [layer.name for layer in skipped.layers] == ["experts.0", "experts.2"]


@pytest.mark.parametrize("wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel])
def test_what_is_around_a_network_is_taken_off(wrap: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    model, training, validation = PLAIN.made()
    given = {"retraining": RECIPE, "workers": 1, "cache": None, "precision": "fp32", **PLAIN.arguments}
    problem = Problem.from_network(wrap(model), training, validation, **given)
    assert tuple(layer.name for layer in problem.layers) == PLAIN.layers
    result = releq_env.search(problem, budget=1, progress=False)
    result.save(tmp_path)
    plain, wrapped = (releq_env.load_packed(tmp_path / "network.safetensors", each) for each in (model, wrap(model)))
    assert torch.equal(plain(validation[0]), wrapped(validation[0]))


def test_torchs_own_module_of_the_default_loss_is_the_default() -> None:
    model, training, validation = PLAIN.made()
    given: dict[str, Any] = {"retraining": RECIPE, "workers": 1, "cache": None} | PLAIN.arguments
    task = _task(Problem.from_network(model, training, validation, loss=nn.CrossEntropyLoss(), **given))
    assert task.loss is F.cross_entropy and task.soft_loss is not None
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    task = _task(Problem.from_network(model, training, validation, loss=smoothed, **given))
    assert task.loss is smoothed and task.metric is top1_accuracy and task.soft_loss is None


def test_a_metric_may_rise_above_one_by_retraining_not_before() -> None:
    model, training, validation = PLAIN.made()
    given: dict[str, Any] = {"retraining": RECIPE, "workers": 1, "cache": None, "loss": F.cross_entropy}
    given |= PLAIN.arguments
    asked: list[int] = []

    def rising(outputs: Tensor, targets: Tensor) -> float:
        asked.append(1)
        return 1.0 if len(asked) == 1 else 1.1

    problem = Problem.from_network(model, training, validation, metric=rising, precision="fp32", **given)
    assert problem.evaluator.evaluate(problem.uniform()[-1]).accuracy == 1.0
    with pytest.raises(ReLeQError, match="metric= gives 97.3"):
        Problem.from_network(model, training, validation, metric=lambda outputs, targets: 97.3, **given)
    asked.clear()
    with pytest.raises(ReLeQError, match="has a validation accuracy of 1.1"):  # it is below that before it is trained
        first = PretrainingRecipe(epochs=1, batch_size=16)
        Problem.from_network(model, training, validation, metric=rising, pretraining=first, cache_key="rising", **given)


def _task(problem: Problem) -> Any:
    return problem.evaluator.source.retraining.task  # type: ignore[attr-defined]


def test_a_network_that_draws_is_refused() -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.out(F.dropout(inputs, 0.5))

    inputs, targets = torch.rand(40, 4), torch.arange(40) % 2
    with pytest.raises(ReLeQError, match="returns something else each time for the same inputs"):
        Problem.from_network(Drawing(), (inputs[:20], targets[:20]), (inputs[20:], targets[20:]), retraining=RECIPE)
