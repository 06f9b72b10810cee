"""The transfer: games are fair, the policy gradient climbs, and the report says what came out."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.algorithms.transfer.sight import HORIZON
from agents.algorithms.transfer.weights import read_policy
from benchmarks.compare.results import COLUMNS
from benchmarks.transfer import published, suite, train
from benchmarks.transfer.__main__ import main
from benchmarks.transfer.playing import begin, play
from benchmarks.transfer.problems import Game, made_up, of_table
from benchmarks.transfer.report import Group, verdict
from benchmarks.transfer.training import Decisions, Learner, Settings, advantages
from releq_env import Problem
from releq_env.tables import AccuracyTable
from tests.agents import problems
from tests.benchmarks.compared import small_table

SETTINGS = Settings(updates=6, games=2, searches=3, epochs=1, batches=1)


def linear(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    return inputs @ weights[0]


def games() -> list[Game]:
    generator = np.random.default_rng(0)
    return [made_up(generator, 200) for _ in range(12)]


def test_a_game_keeps_its_bounds_and_is_worth_playing() -> None:
    for game in games():
        problem = game.problem
        costs = problem.cost_terms(game.rows)[:, 0]
        assert problem.max_cost is None or costs.max() <= problem.max_cost + 1e-9
        assert game.normalised.max() == pytest.approx(1.0)
        assert game.normalised.mean() == pytest.approx(0.0, abs=1e-9)
        assert costs[game.objectives.argmax()] > costs.min()
        expected = [problem.value(a, q) for a, q in zip(game.relative.tolist(), costs.tolist(), strict=True)]
        assert game.objectives == pytest.approx(expected)


def test_games_differ_by_what_draws_and_by_nothing_else() -> None:
    first, again = games()[:3], games()[:3]
    assert all(np.array_equal(one.relative, other.relative) for one, other in zip(first, again, strict=True))
    assert len({game.relative.tobytes() for game in first}) == 3


def test_a_game_of_a_table_has_its_accuracies(tmp_path: Path) -> None:
    table = AccuracyTable.load(small_table(tmp_path))
    for seed in range(5):
        game = of_table(table, np.random.default_rng(seed))
        of_seed = [table.values(each) / table.full_precision_accuracy for each in table.seeds]
        bits = [[of_layer[at] for of_layer, at in zip(game.problem.choices, row, strict=True)] for row in game.rows]
        places = [int(np.flatnonzero((table.bitwidths == each).all(axis=1))[0]) for each in bits]
        assert any(np.allclose(values[places], game.relative) for values in of_seed)


def play_greedily(game: Game, choose: Callable[[Any], Any], generator: np.random.Generator) -> Any:
    """Return the normalised best after each evaluation of one search that always takes the highest score."""
    sight, belief = begin(game, 1, generator)
    normalised, best = game.normalised, [-np.inf]
    for _ in range(HORIZON):
        scores = choose(sight.features(belief, sight.improvement(belief)))
        at = np.where(sight.asked, -np.inf, scores).argmax(axis=1)
        best.append(max(best[-1], float(normalised[at[0]])))
        sight.observe(at, game.objectives[at], game.relative[at])
        belief.observe(at, sight.scale.modelled(game.relative[at]))
    return np.array(best[1:])


def test_a_search_pays_for_nothing_twice_and_its_best_never_falls() -> None:
    game = games()[0]
    played = play(game, lambda features: features[..., 0] * 5.0, 4, np.random.default_rng(0))
    assert played.best.shape == played.taken.shape == (4, HORIZON)
    assert (np.diff(played.best, axis=1) >= 0.0).all()
    assert (played.logs <= 0.0).all()
    best = play_greedily(game, lambda features: -features[..., 0], np.random.default_rng(0))
    assert len(best) == HORIZON and best.max() <= 1.0


def test_promise_is_worth_more_than_chance() -> None:
    """What the policy sees is of use: greedy on one feature is far above a uniformly random choice."""
    promise, chance = [], []
    for seed, game in enumerate(games()):
        promise.append(play_greedily(game, lambda features: features[..., 0], np.random.default_rng(seed))[-1])
        uniform = play(game, lambda features: 0.0 * features[..., 0], 4, np.random.default_rng(seed))
        chance.append(uniform.best[:, -1].mean())
    assert np.mean(promise) > np.mean(chance) + 0.05


def test_advantages_know_nothing_of_how_hard_a_game_is() -> None:
    generator = np.random.default_rng(0)
    curves = np.maximum.accumulate(generator.uniform(-1.0, 1.0, (6, 5)), axis=1)
    hard, easy = advantages([curves, curves], 0.5)
    assert hard == pytest.approx(easy)
    assert hard.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_better_first_step_has_the_larger_advantage() -> None:
    good, bad = np.array([1.0, 1.0, 1.0]), np.array([-1.0, -1.0, 0.0])
    (found,) = advantages([np.stack([good, bad, bad])], 0.7)
    assert found[0, 0] > 0.0 > found[1, 0] == found[2, 0]


def test_the_policy_gradient_climbs() -> None:
    """Three options with the gains -1, 0 and 1: the last one becomes the likeliest."""
    generator = np.random.default_rng(0)
    inputs = np.eye(3, dtype=np.float32)[None].repeat(64, axis=0)
    learner = Learner({"weights": np.zeros(3, dtype=np.float32)}, linear, SETTINGS._replace(learning_rate=0.1))
    for _ in range(20):
        logs = np.log(np.exp(learner.weights()["weights"]) / np.exp(learner.weights()["weights"]).sum())
        taken = generator.integers(3, size=64)
        learner.update(Decisions(inputs, taken, logs[taken].astype(np.float32), taken - 1.0), 0.0, generator)
    weights = learner.weights()["weights"]
    assert weights[2] > weights[1] > weights[0]


def test_examples_are_imitated_in_the_beginning_only() -> None:
    generator = np.random.default_rng(0)
    inputs, zeros = np.eye(3, dtype=np.float32)[None].repeat(16, axis=0), np.zeros(16)
    decisions = Decisions(inputs, zeros.astype(int), np.full(16, -np.log(3), dtype=np.float32), zeros)
    for progress, copied in ((0.0, True), (0.5, False)):
        learner = Learner({"weights": np.zeros(3, dtype=np.float32)}, linear, SETTINGS._replace(entropy=0.0))
        learner.update(decisions, progress, generator, np.ones(16, dtype=int))
        assert bool(learner.weights()["weights"][1] > 0.0) is copied


def test_the_scores_of_training_are_those_of_a_search() -> None:
    policy = train.policy.untrained(1)
    features = np.random.default_rng(0).normal(size=(2, 5, len(train.FEATURES))).astype(np.float32)
    tensors = [torch.from_numpy(each) for each in policy]
    assert train.scores(tensors, torch.from_numpy(features)).numpy() == pytest.approx(policy.score(features), abs=1e-5)


@pytest.mark.parametrize("name", ["uneven", "bounded", "fewer_bits_dearer"])
def test_the_published_features_lead_to_assignments_of_the_problem(name: str) -> None:
    problem: Problem = getattr(problems, name)()
    weights = list(published.untrained().values())
    rows, inputs, taken, logs = published.Episodes(problem)(weights, 50, np.random.default_rng(0))
    for row in rows.tolist():
        assert problem.keeps_max_cost([bits[at] for bits, at in zip(problem.choices, row, strict=True)])
    scores = published.scores([torch.from_numpy(each) for each in weights], torch.from_numpy(inputs[:, 1]))
    of_options = torch.log_softmax(scores, dim=1).numpy()
    assert logs[:, 1] == pytest.approx(of_options[np.arange(50), taken[:, 1]], abs=1e-5)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small tables in place of shipped ones, one of another name, and two decisions on each."""
    monkeypatch.setattr(suite, "DECISIONS", {"default": {}, "size": {"cost": "size"}})
    shipped, folder = tmp_path / "shipped", tmp_path / "tables"
    shipped.mkdir()
    folder.mkdir()
    monkeypatch.setattr(suite, "DATA", shipped)
    small_table(shipped, "digits")
    small_table(shipped, "mnist-wrpn")
    small_table(folder, "toy")
    return folder


def test_a_policy_is_trained_without_its_table(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "TRANSFER", SETTINGS)
    monkeypatch.setattr(train, "PUBLISHED", SETTINGS)
    for attempt in ("first", "again"):
        folder = str(tmp_path / attempt)
        main(["--train", "digits", "--updates", "2", "--weights", folder, "--tables", str(tables)])
    about = read_policy(tmp_path / "first" / "without-digits.npz")[1]
    assert list(about["tables"]) == ["mnist-wrpn"]
    assert about["command"] == "python -m benchmarks.transfer --train digits --updates 2"
    for name in ("without-digits.npz", "published/without-digits.npz"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_searches_and_reports(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "transfer.csv"
    search = ["--seeds", "2", "--tables", str(tables), "--output", str(output), "--agents", "transfer", "gp"]
    main(search)
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*COLUMNS, "at_5", "at_10", "at_20")
    assert len(rows) == 3 * 2 * 2 * 2
    for row in rows:
        assert int(row["distinct_evaluations"]) == int(row["budget"]) == 20
        assert float(row["at_5"]) <= float(row["at_10"]) <= float(row["at_20"]) == float(row["at_50"]) <= 1.0
    before, page = output.read_bytes(), (tmp_path / "transfer" / "README.md").read_text()
    later, looked_at = page.split("## Tables its makers knew")
    assert "toy/size" in later and "digits/size" not in later
    assert "mnist-wrpn/size" in looked_at.split("## Made with")[0] and "toy/size" not in looked_at
    assert page.count("After 20 evaluations `transfer` is") == 2
    main(search)  # nothing is missing
    assert output.read_bytes() == before
    (tmp_path / "transfer" / "best.png").unlink()
    main([*search, "--report"])
    assert (tmp_path / "transfer" / "README.md").read_text() == page
    assert (tmp_path / "transfer" / "best.png").exists()
    assert "left out: mnist: no such table" in capsys.readouterr().err


def test_runs_of_another_policy_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry, *_), _ = suite.problems()
    jobs = {each.label: suite.OneByOne(entry, each, 0, 20, 400) for each in suite.AGENTS}
    before = {label: job.described() for label, job in jobs.items()}
    for path in suite.SHIPPED.glob("*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes() + b" ")
    monkeypatch.setattr(suite, "SHIPPED", tmp_path)
    monkeypatch.setattr(published, "SHIPPED", tmp_path)
    changed = {label for label, job in jobs.items() if job.described() != before[label]}
    assert changed == {"transfer", "transfer/published"}


def test_what_20_evaluations_exhaust_is_left_out(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "DECISIONS", {"default": {}, "bounded": {"cost": "size", "max_cost": 0.14}})
    found, said = suite.problems(tables)
    assert {entry.name for entry in found} == {"digits/default", "mnist-wrpn/default", "toy/default"}
    assert "toy/bounded: 20 evaluations are all that there are" in said


def test_guesses_are_not_told_apart() -> None:
    found, said = suite.problems()
    assert "cifar10-wrpn/size" in {entry.name for entry in found}
    assert "cifar10-wrpn/bounded" not in {entry.name for entry in found}
    (why,) = (line for line in said if line.startswith("cifar10-wrpn/bounded: "))
    assert "have collapsed" in why


def test_the_verdict_is_said_plainly() -> None:
    generator = np.random.default_rng(0)
    low = generator.uniform(0.4, 0.6, (20, 2, 20))
    best = {"transfer": low + 0.3, "gp": low, "local": low + 0.301, "random": low + 0.6}
    said = verdict(Group("Any", ["one", "two"], best)).splitlines()
    assert said[2].startswith("- above `gp`")
    assert said[3].startswith("- not told apart from `local`")
    assert said[4].startswith("- below `random`")


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(SystemExit, match="error: unknown --train .nowhere"):
        main(["--train", "nowhere"])
    with pytest.raises(SystemExit, match="error: unknown --agents .nobody"):
        main(["--agents", "nobody"])
