"""Trains policies, each without one table, and writes them down."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from agents.algorithms.transfer import policy
from agents.algorithms.transfer.policy import Policy
from agents.algorithms.transfer.prior import Singles
from agents.algorithms.transfer.sight import FEATURES
from agents.algorithms.transfer.weights import MADE_UP, SHIPPED, write_arrays
from benchmarks.common.recording import command
from benchmarks.transfer import published
from benchmarks.transfer.playing import play
from benchmarks.transfer.problems import Game, made_up, of_table
from benchmarks.transfer.suite import others
from benchmarks.transfer.training import Decisions, Learner, Scores, Settings, advantages
from releq_env.errors import check_choice
from releq_env.observation import FEATURES as OBSERVED
from releq_env.tables import AccuracyTable
from releq_env.tables.shipped import TABLES

TRANSFER = Settings(updates=150, games=14, searches=12, entropy=0.003, final=0.8)
PUBLISHED = Settings(updates=100, games=16, searches=32, entropy=0.02, learning_rate=0.003)

_TABLES = 0.5  # share of the games that are of a table, where there are tables
_MOST, _ALL = 320, 2**20  # candidates of a game; all that there may be

Step = Callable[[Learner, float, np.random.Generator], str]
"""An update: the learner, how much is done, what draws -> what is said of it."""


def train_all(names: Sequence[str], updates: int | None, seed: int, tables: Path, folder: Path | None) -> None:
    """Train a policy for each name, and the baseline over the published features beside it.

    Args:
        names: Of the tables that are left out, or `made-up`: no table at all.
        updates: How many; `None` is as set here.
        seed: Of the training.
        tables: Folder of tables that are taken in place of the shipped ones of the same name.
        folder: Where the policies go, the baselines into its folder `published`. Default: where they are shipped.

    Raises:
        ReLeQError: If a name is unknown.
    """
    for name in names:
        check_choice("--train", name, [MADE_UP, *TABLES])
    for name in names:
        seen = [] if name == MADE_UP else others(name, tables)
        stem = name if name == MADE_UP else f"without-{name}"
        about: dict[str, Any] = {
            "trained_on": ", ".join(["made-up networks", *(table.name for table in seen)]),
            "tables": {table.name: table.digest[:16] for table in seen},
            "seed": seed,
            "command": command("benchmarks.transfer", {"train": name, "updates": updates, "seed": seed or None}),
        }
        ours, theirs = (each._replace(updates=updates or each.updates) for each in (TRANSFER, PUBLISHED))
        train(
            (folder or SHIPPED) / f"{stem}.npz",
            policy.untrained(seed)._asdict(),
            scores,
            transfer_step(seen, ours),
            ours,
            {**about, "features": FEATURES},
        )
        train(
            (published.SHIPPED if folder is None else folder / "published") / f"{stem}.npz",
            published.untrained(seed),
            published.scores,
            published_step(seen, theirs),
            theirs,
            {**about, "features": OBSERVED},
        )


def train(
    path: Path, begun: Mapping[str, Singles], scores: Scores, step: Step, settings: Settings, about: Mapping[str, Any]
) -> None:
    """Train and write.

    Args:
        path: Where the weights go.
        begun: The weights before.
        scores: The policy, with torch.
        step: An update.
        settings: Of the training.
        about: What is written beside the weights.
    """
    learner = Learner(begun, scores, settings)
    bar = tqdm(range(settings.updates), unit="update", desc=path.stem, mininterval=1.0)
    for update in bar:
        generator = np.random.default_rng([about["seed"], update])
        bar.set_postfix_str(step(learner, update / settings.updates, generator), refresh=False)
    write_arrays(path, learner.weights(), {**about, "settings": settings._asdict()})


def games(tables: Sequence[AccuracyTable], generator: np.random.Generator, count: int, most: int) -> list[Game]:
    """Return games of made-up networks, and of tables if there are any."""
    found = []
    for _ in range(count):
        table = tables[int(generator.integers(len(tables)))] if tables and generator.random() < _TABLES else None
        found.append(made_up(generator, most) if table is None else of_table(table, generator, most))
    return found


def transfer_step(tables: Sequence[AccuracyTable], settings: Settings) -> Step:
    """Return an update of the policy that chooses among candidates."""

    def step(learner: Learner, progress: float, generator: np.random.Generator) -> str:
        now, made = Policy(**learner.weights()), games(tables, generator, settings.games, _MOST)
        played = [play(game, now.score, settings.searches, generator) for game in made]
        gains = advantages([each.best for each in played], settings.final)
        inputs = np.concatenate([each.features.reshape(-1, *each.features.shape[2:]) for each in played])
        decisions = Decisions(
            inputs,
            np.concatenate([each.taken.ravel() for each in played]),
            np.concatenate([each.logs.ravel() for each in played]),
            np.concatenate([each.ravel() for each in gains]),
        )
        entropy = learner.update(decisions, progress, generator, inputs[:, :, 0].argmax(axis=1))
        final = np.mean([each.best[:, -1].mean() for each in played])
        return f"{final:.3f} at the end, entropy {entropy:.2f}"

    return step


def published_step(tables: Sequence[AccuracyTable], settings: Settings) -> Step:
    """Return an update of the policy over the published observation."""

    def step(learner: Learner, progress: float, generator: np.random.Generator) -> str:
        weights, parts, gained = list(learner.weights().values()), [], []
        for game in games(tables, generator, settings.games, _ALL):
            rows, inputs, taken, logs = published.Episodes(game.problem)(weights, settings.searches, generator)
            counts = tuple(map(len, game.problem.choices))
            where = np.zeros(int(np.prod(counts)), dtype=np.int64)
            where[np.ravel_multi_index(tuple(game.rows.T), counts)] = np.arange(len(game.rows))
            best = np.maximum(game.normalised[where[np.ravel_multi_index(tuple(rows.T), counts)]], -1.0)
            gained.append(best)
            parts.append((inputs.reshape(-1, inputs.shape[2]), taken.ravel(), logs.ravel(), rows.shape[1]))
        gains = advantages([best[:, None] for best in gained], 1.0)
        spread = np.concatenate([each[:, 0].repeat(layers) for each, (*_, layers) in zip(gains, parts, strict=True)])
        seen, took, likely, _ = map(list, zip(*parts, strict=True))
        decisions = Decisions(np.concatenate(seen), np.concatenate(took), np.concatenate(likely), spread)
        entropy = learner.update(decisions, progress, generator)
        return f"{np.mean(np.concatenate(gained)):.3f} an assignment, entropy {entropy:.2f}"

    return step


def scores(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return what `Policy` returns, with gradients."""
    inner, inner_bias, middle, middle_bias, outer = weights
    hidden = torch.tanh(inputs @ inner + inner_bias)
    return torch.tanh(hidden @ middle + middle_bias) @ outer
