"""`transfer`: a searcher like any other, whose belief is a Gaussian process and whose policy comes from a file."""

import hashlib
import itertools
import json
import zipfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from agents.algorithms.transfer.belief import Belief
from agents.algorithms.transfer.policy import Policy, untrained
from agents.algorithms.transfer.prior import Losses
from agents.algorithms.transfer.search import TransferSearch
from agents.algorithms.transfer.sight import FEATURES, Sight
from agents.algorithms.transfer.weights import SHIPPED, policy_path, read_policy, write_arrays
from releq_env import Problem, ReLeQError
from releq_env.searchers import Searcher, search_loop
from releq_env.testing import SearcherContract
from releq_env.testing.landscapes import Landscape, make_landscape
from releq_env.testing.problems import PROBLEMS
from tests.agents import problems


class TestTransfer(SearcherContract):
    @pytest.fixture(params=[*PROBLEMS, "fewer_bits_dearer"])
    def problem(self, request: pytest.FixtureRequest) -> Problem:
        return PROBLEMS[request.param]() if request.param in PROBLEMS else problems.fewer_bits_dearer()

    def make(self, problem: Problem, seed: int) -> Searcher:
        return TransferSearch(problem, seed, draws=32)


def best_after(landscape: Landscape, seed: int, budget: int = 20, **settings: Any) -> float:
    problem = landscape.problem
    searcher = TransferSearch(problem, seed, **settings)
    found = itertools.chain(*search_loop(problem, searcher, budget=budget))
    return landscape.normalised(max(map(problem.objective, found)))


@pytest.mark.parametrize("name", ["separable", "bounded"])
def test_training_is_worth_something(name: str) -> None:
    landscape = make_landscape(name)
    trained, before = (
        mean(best_after(landscape, seed, weights=weights) for seed in range(3)) for weights in ("auto", "untrained")
    )
    assert trained > max(before + 0.05, 0.9)


def test_a_policy_without_the_table_is_preferred(tmp_path: Path) -> None:
    for name in ("made-up", "without-digits"):
        write_arrays(tmp_path / f"{name}.npz", untrained()._asdict(), {})
    assert policy_path("auto", "digits", tmp_path).stem == "without-digits"
    assert policy_path("auto", "cifar10", tmp_path).stem == "made-up"
    assert policy_path("without-digits", "cifar10", tmp_path).stem == "without-digits"


def test_no_shipped_policy_has_seen_the_table_that_it_leaves_out() -> None:
    shipped = list(SHIPPED.glob("*.npz"))
    assert shipped
    for path in shipped:
        seen = read_policy(path)[1]["tables"]
        assert path.stem.removeprefix("without-") not in seen
        assert seen == {} or path.stem != "made-up"


def test_it_says_on_what_its_policy_was_trained() -> None:
    about = TransferSearch(problems.four_layers()).about
    assert about["weights"] == "made-up.npz"
    assert about["sha256"] == hashlib.sha256((SHIPPED / "made-up.npz").read_bytes()).hexdigest()
    assert "made-up networks" in about["trained_on"]


def test_what_is_no_policy_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="weights='nowhere' is no policy.*made-up"):
        TransferSearch(problems.four_layers(), weights="nowhere")
    for content in (b"nothing", (SHIPPED / "made-up.npz").read_bytes()[:-300]):
        path = tmp_path / "damaged.npz"
        path.write_bytes(content)
        with pytest.raises(ReLeQError, match="holds no policy"):
            read_policy(path)


def test_no_single_wrong_byte_ends_in_anything_but_one_line(tmp_path: Path) -> None:
    whole, path = (SHIPPED / "made-up.npz").read_bytes(), tmp_path / "damaged.npz"
    refused = 0
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_policy(path)
        except ReLeQError:
            refused += 1
    assert refused > 0.9 * len(range(0, len(whole), 29))


@pytest.mark.parametrize("weights", [5, None, "~nobody-at-all/policy.npz"])
def test_what_is_no_name_is_refused_in_one_line(weights: Any) -> None:
    with pytest.raises(ReLeQError, match="weights=.* is "):
        TransferSearch(problems.four_layers(), weights=weights)


def test_a_policy_of_other_features_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "other.npz", untrained()._asdict(), {"features": ["others"]})
    with pytest.raises(ReLeQError, match="other features"):
        read_policy(tmp_path / "other.npz")


def test_nothing_in_a_file_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "policy.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", json.dumps({"features": FEATURES}))
        for name in Policy._fields:
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ReLeQError, match="holds no policy"):
        read_policy(path)


def test_a_policy_is_kept_as_it_is(tmp_path: Path) -> None:
    policy = untrained(3)
    write_arrays(tmp_path / "policy.npz", policy._asdict(), {"features": FEATURES})
    again, _ = read_policy(tmp_path / "policy.npz")
    features = np.random.default_rng(0).normal(size=(5, len(FEATURES))).astype(np.float32)
    assert np.array_equal(policy.score(features), again.score(features))


def test_the_belief_is_the_gaussian_process_of_the_draws() -> None:
    """Against the textbook's formula: mean and covariance of the draws, with a noise."""
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(40, 12)).cumsum(axis=1).astype(np.float32)
    belief = Belief(draws, unit=1.0)
    asked, losses = [3, 7, 7], np.array([0.5, -1.0, -0.9])
    for at, loss in zip(asked, losses, strict=True):
        belief.observe(np.array([at]), np.array([loss]))
    covariance = np.cov(draws.T)
    noise = np.diag(0.1**2 + 0.002**2 / np.cosh(losses) ** 2)
    inner = np.linalg.solve(covariance[np.ix_(asked, asked)] + noise, covariance[asked])
    expected = draws.mean(axis=0) + (losses - draws.mean(axis=0)[asked]) @ inner
    variance = np.diag(covariance) - (covariance[asked] * inner).sum(axis=0)
    assert belief.mean[0] == pytest.approx(expected, abs=1e-3)
    assert belief.variance[0] == pytest.approx(variance, abs=1e-3)


def test_searches_side_by_side_do_not_touch_each_other() -> None:
    draws = np.random.default_rng(1).normal(size=(30, 9)).astype(np.float32)
    both, alone = Belief(draws, 0.01, searches=2), Belief(draws, 0.01)
    for at, loss in ((2, 1.0), (5, 3.0)):
        both.observe(np.array([at, 8 - at]), np.array([loss, -loss]))
        alone.observe(np.array([at]), np.array([loss]))
    assert both.mean[0] == pytest.approx(alone.mean[0], abs=1e-5)
    assert both.variance[0] == pytest.approx(alone.variance[0], abs=1e-5)


def test_more_bits_lose_less_on_average_in_the_prior() -> None:
    problem = problems.like_digits()
    rows = np.array([[place] * 4 for place in range(8)])
    losses = Losses(problem, 200, np.random.default_rng(0))(rows).mean(axis=0)
    assert (np.diff(losses) < 0.0).all()
    assert losses[0] > 0.05
    assert abs(losses[-1]) < 0.15


@pytest.mark.parametrize("name", ["uneven", "bounded", "fewer_bits_dearer", "sometimes_nan", "always_nan"])
def test_features_are_numbers_of_order_one(name: str) -> None:
    problem = getattr(problems, name)()
    kept = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    rows = np.array([problem.indices(each) for each in kept])
    sight = Sight(problem, rows)
    belief = Belief(np.arcsinh(Losses(problem, 16, np.random.default_rng(0))(rows) / sight.unit), sight.unit)
    for at in range(5):
        features = sight.features(belief, sight.improvement(belief))
        assert np.isfinite(features).all()
        assert np.abs(features).max() <= 2.0
        sight.observe(np.array([at]), np.array([-0.5]), np.array([0.4]))
        belief.observe(np.array([at]), sight.scale.modelled(np.array([0.4])))


def test_what_follows_from_what_was_measured_is_seen() -> None:
    """Of an assignment that passed those above it are told, of one that failed those below it."""
    problem = Problem.from_function(2, [1, 2, 3], lambda bitwidths: 0.9)
    rows = np.array(list(itertools.product(range(3), repeat=2)))
    sight = Sight(problem, rows)
    belief = Belief(np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32), sight.unit)
    where = {tuple(row): index for index, row in enumerate(rows.tolist())}
    sight.observe(np.array([where[1, 1]]), np.array([0.2]), np.array([1.0]))
    sight.observe(np.array([where[0, 2]]), np.array([-0.1]), np.array([0.9]))
    features = sight.features(belief, sight.improvement(belief))[0]
    passed = {row for row, index in where.items() if features[index, FEATURES.index("above_passing")]}
    failed = {row for row, index in where.items() if features[index, FEATURES.index("below_failing")]}
    assert passed == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert failed == {(0, 0), (0, 1), (0, 2)}
    assert features[where[2, 2], FEATURES.index("layers_changed")] == 1.0
    assert features[where[1, 2], FEATURES.index("bits_added")] == pytest.approx(0.25)


def test_an_order_of_candidates_is_no_information() -> None:
    """The same candidates in another order are scored alike, each by itself."""
    problem, policy = problems.like_digits(), read_policy(policy_path("made-up", ""))[0]
    rows = np.array(list(itertools.product(range(8), repeat=4)))[::16]
    order = np.random.default_rng(0).permutation(len(rows))
    losses = Losses(problem, 32, np.random.default_rng(0))
    scores = []
    for shown in (rows, rows[order]):
        sight = Sight(problem, shown)
        belief = Belief(np.arcsinh(losses(shown) / np.float32(sight.unit)), sight.unit)
        scores.append(policy.score(sight.features(belief, sight.improvement(belief)))[0])
    assert scores[0][order] == pytest.approx(scores[1], abs=1e-3)


def test_weights_are_few() -> None:
    """What is shipped is a small file: the same network for every layer and candidate."""
    assert sum(array.size for array in untrained()) < 3000
    assert Policy._fields == tuple(untrained()._asdict())
