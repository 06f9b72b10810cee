"""The parts of `dyna_ppo` alone: the policy's gradient, the advantages, the model's cross-validation, the promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.algorithms.dyna.imitation import best_rows
from agents.algorithms.dyna.model import AccuracyModel
from agents.algorithms.dyna.policy import Indices, Masks, Policy
from agents.algorithms.dyna.promise import Promise
from agents.algorithms.dyna.training import Training, advantages, update
from releq_env import Problem
from tests.agents import problems

LAYERS, ACTIONS = 4, 3


def open_actions(layer: int, rows: Indices) -> Masks:
    """The second layer has two actions; the last one may not repeat the first."""
    masks = np.ones((len(rows), ACTIONS), dtype=np.bool_)
    if layer == 1:
        masks[:, 2] = False
    if layer == LAYERS - 1:
        masks[np.arange(len(rows)), rows[:, 0]] = False
    return masks


def policy(seed: int = 0, spread: float = 0.5, **settings: float) -> Policy:
    generator = np.random.default_rng(seed)
    made = Policy(LAYERS, ACTIONS, open_actions, generator, hidden=7, **settings)
    for name in made.weights:
        made.weights[name][:] += spread * generator.normal(size=made.weights[name].shape) * made.allowed(name)
    return made


def test_at_first_all_open_actions_are_equally_likely() -> None:
    made = policy(spread=0.0)
    rollouts = made.sample(500)
    counts = rollouts.masks.sum(axis=2)
    assert rollouts.logs == pytest.approx(-np.log(counts))
    assert np.take_along_axis(rollouts.masks, rollouts.rows[:, :, None], axis=2).all()


def test_what_is_drawn_is_as_likely_as_it_says() -> None:
    made = policy(spread=0.2)
    rollouts = made.sample(20_000)
    logs = made.logs(rollouts.rows, rollouts.masks)
    assert np.take_along_axis(logs, rollouts.rows[:, :, None], axis=2)[:, :, 0] == pytest.approx(rollouts.logs)
    unique, index, count = np.unique(rollouts.rows, axis=0, return_index=True, return_counts=True)
    assert len(unique) == 3 * 2 * 3 * 2
    expected = np.exp(rollouts.logs[index].sum(axis=1))
    assert expected.sum() == pytest.approx(1.0)
    assert count / 20_000 == pytest.approx(expected, abs=0.015)


def test_an_action_sees_those_before_it_and_no_other() -> None:
    made = policy()
    rows = made.sample(50).rows
    masks = np.ones((50, LAYERS, ACTIONS), dtype=np.bool_)
    before = made.logs(rows, masks)
    for layer in range(LAYERS):
        changed = rows.copy()
        changed[:, layer] = (changed[:, layer] + 1) % ACTIONS
        differs = np.abs(made.logs(changed, masks) - before).max(axis=(0, 2)) > 1e-9
        assert differs.tolist() == [later > layer for later in range(LAYERS)]


def test_the_gradient_is_torchs() -> None:
    made = policy(1)
    rollouts = made.sample(9)
    generator = np.random.default_rng(2)
    weights, entropy = generator.normal(size=(9, LAYERS)), generator.normal(size=9)
    ours = made.gradient(rollouts.rows, rollouts.masks, lambda logs: weights, entropy)

    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in made.weights.items()}
    x = torch.nn.functional.one_hot(torch.tensor(rollouts.rows), ACTIONS).double().flatten(1)
    inner = torch.tanh(x @ theirs["inner"] + theirs["inner_bias"])
    logits = (x @ theirs["direct"] + inner @ theirs["outer"] + theirs["bias"]).unflatten(1, (LAYERS, ACTIONS))
    logs = logits.masked_fill(~torch.tensor(rollouts.masks), -1e9).log_softmax(dim=2)
    taken = logs.gather(2, torch.tensor(rollouts.rows)[:, :, None])[:, :, 0]
    spread = -(logs.exp() * logs).sum(dim=2)
    ((torch.tensor(weights) * taken).sum() + (torch.tensor(entropy)[:, None] * spread).sum()).backward()
    for name, value in theirs.items():
        assert value.grad is not None
        assert ours[name] == pytest.approx(value.grad.numpy() * made.allowed(name), abs=1e-9), name


@pytest.mark.parametrize("quantile", [1.0, 0.2])
def test_training_finds_the_best_of_a_known_return(quantile: float) -> None:
    made = policy(spread=0.0, learning_rate=0.05)
    goal = np.array([2, 0, 1, 0])
    settings = Training(epochs=2, clip=0.2, entropy=0.0, quantile=quantile, imitation=0.0)
    for _ in range(60):
        rollouts = made.sample(32)
        update(made, rollouts, (rollouts.rows == goal).sum(axis=1), np.empty((0, LAYERS), dtype=np.int64), settings)
    # The risk-seeking gradient ends where the best fills its quantile: a policy does not collapse for its sake.
    assert (made.sample(500).rows == goal).all(axis=1).mean() > (0.8 if quantile == 1.0 else 0.4)


def test_imitation_alone_makes_the_example_likely() -> None:
    made = policy(spread=0.0, learning_rate=0.05)
    example = np.array([[2, 1, 1, 0]])
    none = made.sample(0)
    for _ in range(30):
        update(made, none, np.empty(0, dtype=np.int64), example, Training(2, 0.2, 0.0, 1.0, imitation=1.0))
    assert (made.sample(200).rows == example[0]).all(axis=1).mean() > 0.8


def test_a_clipped_rollout_moves_nothing() -> None:
    """Far beyond the clipping range, the gradient of PPO's objective is zero."""
    made = policy()
    rollouts = made.sample(8)
    before = {name: value.copy() for name, value in made.weights.items()}
    long_ago = rollouts._replace(logs=rollouts.logs - 1.0)
    up = np.argsort(np.argsort(rollouts.logs.sum(axis=1)))
    settings = Training(epochs=1, clip=0.2, entropy=0.0, quantile=0.99, imitation=0.0)  # all advantages from 0
    update(made, long_ago, up, np.empty((0, LAYERS), dtype=np.int64), settings)
    assert all((made.weights[name] == value).all() for name, value in before.items())


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.05, 1.0))
def test_advantages_keep_the_order_and_know_no_scale(returns: list[int], quantile: float) -> None:
    found = advantages(np.array(returns), quantile)
    assert np.isfinite(found).all()
    assert advantages(np.array(returns) * 7 - 3, quantile) == pytest.approx(found)
    order = np.argsort(returns, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()


def measured(problem: Problem, count: int, seed: int = 0) -> tuple[Indices, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = np.stack([generator.integers(len(of_layer), size=count) for of_layer in problem.choices], axis=1)
    rows = np.unique(rows, axis=0)
    generator.shuffle(rows)
    bits = [tuple(of_layer[index] for of_layer, index in zip(problem.choices, row, strict=True)) for row in rows]
    return rows, np.array([each.relative_accuracy for each in problem.evaluator.evaluate_many(bits)])


def test_the_model_predicts_what_it_has_not_seen_and_knows_so() -> None:
    problem = problems.like_digits()
    rows, accuracies = measured(problem, 60)
    model = AccuracyModel(problem, ("logarithm", "step"))
    model.fit(rows[:40], accuracies[:40])
    mean, variance = model.predict(rows[40:])
    actual = model.scale.modelled(accuracies[40:])
    assert 0.5 < model.skill <= 1.0
    assert ((mean - actual) ** 2).mean() < 0.3 * actual.var()
    assert (np.abs(mean - actual) < 3.0 * np.sqrt(variance)).mean() > 0.9


def test_the_model_is_not_trusted_where_there_is_nothing_to_predict() -> None:
    problem = problems.like_digits()
    rows, accuracies = measured(problem, 40)
    model = AccuracyModel(problem, ("logarithm", "step"))
    model.fit(rows, np.random.default_rng(0).permutation(accuracies))
    assert model.skill < 0.25
    model.fit(rows, np.full(len(rows), 0.7))
    assert model.skill <= 0.0
    few = AccuracyModel(problem, ("logarithm",))
    few.fit(rows[:3], accuracies[:3])
    assert few.skill == -math.inf


def test_what_is_supposed_keeps_a_batch_apart() -> None:
    problem = problems.like_digits()
    rows, accuracies = measured(problem, 30)
    model = AccuracyModel(problem, ("logarithm",))
    model.fit(rows, accuracies)
    row = np.array([0, 0, 0, 0])
    before, _ = model.predict(row[None])
    model.suppose(row)
    after, _ = model.predict(row[None])
    assert after > before  # a higher loss is expected


def test_a_promise_is_the_gain_times_the_chance_of_keeping_the_constraint() -> None:
    problem = problems.like_digits()
    rows, accuracies = measured(problem, 30)
    model = AccuracyModel(problem, ("logarithm", "step"))
    model.fit(rows, accuracies)
    others = np.random.default_rng(1).integers(8, size=(50, 4))
    gain = Promise(problem, model)(others, 0.1)[:, 0]
    q = problem.cost_terms(others)[:, 0]
    edge = model.scale.modelled(np.array([problem.min_relative_accuracy]))[0]
    chance = model.chances(others, np.array([-9.0, edge, 9.0]))[:, 0]
    assert gain == pytest.approx(chance * np.maximum(1.0 - q**0.2 - 0.1, 0.0), abs=1e-9)


def test_the_best_are_imitated() -> None:
    problem = problems.four_layers()
    told = {
        each.bitwidths: each for each in problem.evaluator.evaluate_many([(4, 4, 4, 4), (1, 1, 1, 1), (2, 1, 3, 2)])
    }
    assert best_rows(problem, told, 2).tolist() == [[3, 3, 3, 3], [1, 0, 2, 1]]
    assert best_rows(problem, told, 0).shape == (0, 4)
    assert len(best_rows(problem, told, 9)) == 3
