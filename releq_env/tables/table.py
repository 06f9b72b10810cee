"""Accuracies that were measured once and can be asked for any number of times."""

import csv
import hashlib
import io
import json
import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_env.choices import Choices, check_choices
from releq_env.cost import CostTerms, cheapest_share, check_positive, cost_matrix, cost_model
from releq_env.errors import ReLeQError, check_fraction, short
from releq_env.files import replace_file
from releq_env.layer_info import LayerInfo
from releq_env.paths import expanded
from releq_env.reward import (
    LENET_CONSTANTS,
    Objective,
    ReleasedConstants,
    RewardSettings,
    check_max_cost,
    make_objective,
)
from releq_env.tables import gather, npz
from releq_env.tables.described import Described
from releq_env.tables.landscape import Answer, Landscape
from releq_env.tables.layers import check_layers, plain_layers
from releq_env.tables.records import check_records, check_table_choices
from releq_env.tables.sensitivities import Sensitivities, parse
from releq_env.tables.shipped import table_path
from releq_env.workers.waiting import Assignment

FORMAT = 1


class AccuracyTable:
    """Measured accuracies of every assignment of a network, or of many.

    Made by `load`, `from_records`, `from_cache` or `from_run`. Never changes. An assignment may have been measured
    with several retraining seeds; `seed=None` always means the mean over the seeds with which every assignment of
    the table was measured (where there is none such, over all seeds, of the assignments that have them all).

    Example:
        >>> table = AccuracyTable.from_records([[1], [2]], [0.90, 0.98], full_precision_accuracy=0.99)
        >>> table.query((2,))
        0.98
        >>> table.optimum(min_relative_accuracy=0.98).bitwidths
        (2,)

    Attributes:
        name: What it is called.
        layers: The quantizable layers, first to last.
        choices: The bitwidths of each layer, ascending: what a complete table has all combinations of.
        bitwidths: The assignments that were measured, in lexicographic order, uint8, shape `(rows, layers)`.
        seeds: The retraining seeds, ascending.
        accuracy: On validation, in [0, 1], shape `(seeds, rows)`; NaN where it was not measured.
        full_precision_accuracy: Of the network before quantizing, in (0, 1].
        quantizer: Name of the quantizer, or `None`.
        min_relative_accuracy: The accuracy constraint if no other is given.
        released_constants: Of the reward `released`.
        about: How it was measured: task, split, recipe, precision, hash of the weights, versions, machine, date,
            command, sensitivities. JSON-able.
    """

    def __init__(
        self,
        bitwidths: ArrayLike,
        accuracy: ArrayLike,
        seeds: int | ArrayLike,
        *,
        full_precision_accuracy: float,
        layers: Sequence[LayerInfo] | None = None,
        choices: Any = None,
        name: str = "table",
        quantizer: str | None = None,
        min_relative_accuracy: float = 0.99,
        released_constants: ReleasedConstants = LENET_CONSTANTS,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.bitwidths, self.seeds, self.accuracy = check_records(bitwidths, accuracy, seeds)
        count = self.bitwidths.shape[1]
        self.layers = plain_layers(count) if layers is None else check_layers(layers, count)
        names = [layer.name for layer in self.layers]
        self.choices: Choices = check_table_choices(choices, names, self.bitwidths)
        self.full_precision_accuracy = check_fraction("full_precision_accuracy", full_precision_accuracy)
        self.min_relative_accuracy = check_fraction("min_relative_accuracy", min_relative_accuracy)
        if not isinstance(name, str) or not isinstance(quantizer, str | None):
            raise ReLeQError(f"name={short(name)} and quantizer={short(quantizer)} are not both names; give strings")
        self.name, self.quantizer = name, quantizer
        if not isinstance(released_constants, ReleasedConstants):
            raise ReLeQError(f"released_constants={short(released_constants)} are none; give ReleasedConstants(...)")
        self.released_constants = released_constants
        self.about = dict(about or {})
        self._answers: dict[int | None, dict[Assignment, float]] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> "AccuracyTable":
        return self

    def __repr__(self) -> str:
        of = f"{len(self)} of {self.size} assignments"
        return f"<AccuracyTable {self.name}: {of}, {self.num_layers} layers, seeds {', '.join(map(str, self.seeds))}>"

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> "AccuracyTable":
        """Return a table that comes with the package, by its name, or one from a file.

        Raises:
            ReLeQError: In one line, if there is none, or the file is damaged or something else.
        """
        path = table_path(name_or_path)
        metadata, arrays = npz.read(path)
        try:
            if metadata["format"] != FORMAT:
                raise ValueError(f"format {metadata['format']!r}, and this version of releq_env reads {FORMAT}")
            released = metadata["released_constants"]
            return cls(
                **arrays,
                full_precision_accuracy=metadata["full_precision_accuracy"],
                layers=[LayerInfo(**layer) for layer in metadata["layers"]],
                choices=metadata["choices"],
                name=metadata["name"],
                quantizer=metadata["quantizer"],
                min_relative_accuracy=metadata["min_relative_accuracy"],
                released_constants=ReleasedConstants(*map(float, released)),
                about=metadata["about"],
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise npz.damaged(path, error) from error

    @classmethod
    def from_records(
        cls,
        bitwidths: ArrayLike,
        accuracy: ArrayLike,
        *,
        full_precision_accuracy: float,
        seeds: int | ArrayLike = 0,
        layers: Sequence[LayerInfo] | None = None,
        choices: Any = None,
        **properties: Any,
    ) -> "AccuracyTable":
        """Return a table of anybody's measurements, complete or partial; a record that is repeated counts once.

        Args:
            bitwidths: The assignment of each record, integers from 1 to 32, shape `(records, layers)`.
            accuracy: Of each, in [0, 1], shape `(records,)`.
            full_precision_accuracy: What accuracies are divided by, in (0, 1].
            seeds: The retraining seed of each record, or one for all.
            layers: Descriptions of the layers. Default: all alike, of one weight.
            choices: One set of bitwidths for all layers, a list of sets or a dictionary by layer name. Default: those
                that occur.
            **properties: `name`, `quantizer`, `min_relative_accuracy`, `released_constants` and `about`.

        Raises:
            ReLeQError: In one line, if something does not fit, or records contradict each other.
        """
        arguments = {"full_precision_accuracy": full_precision_accuracy, "layers": layers, "choices": choices}
        return cls(bitwidths, accuracy, seeds, **arguments, **properties)

    @classmethod
    def from_cache(
        cls, path: str | os.PathLike[str], problem: Described, *, seeds: int | Sequence[int] | None = None
    ) -> "AccuracyTable":
        """Return what a cache file knows of a problem.

        Args:
            path: The cache file.
            problem: What it is asked for; its choices are the table's.
            seeds: Retraining seeds, or one. Default: the problem's own.

        Raises:
            ReLeQError: If it knows nothing, or cannot be asked.
        """
        found = gather.from_cache(path, problem, seeds)
        if not found:
            raise ReLeQError(
                f"the cache {os.fspath(path)} knows nothing of {problem.name} as it would be measured here; "
                "give the file and the arguments that it was measured with"
            )
        return cls.of_problem(problem, found)

    @classmethod
    def from_run(cls, folder: str | os.PathLike[str], problem: Described | None = None) -> "AccuracyTable":
        """Return what a run of an agent has evaluated.

        Args:
            folder: The run's folder.
            problem: What was searched: gives layers and choices. Default: layers all alike, and the choices that
                occur.

        Raises:
            ReLeQError: If there is no run, or it has evaluated nothing.
        """
        run = gather.from_run(folder, problem)
        if problem is not None:
            return cls.of_problem(problem, run.found)
        bitwidths, seeds, accuracy = zip(*run.found, strict=True)
        return cls(
            list(bitwidths),
            accuracy,
            seeds,
            full_precision_accuracy=run.full_precision_accuracy,
            min_relative_accuracy=run.min_relative_accuracy,
            name=Path(folder).resolve().name,
        )

    @classmethod
    def of_problem(
        cls, problem: Described, records: Sequence[tuple[Assignment, int, float]], **properties: Any
    ) -> "AccuracyTable":
        """Return a table with the layers and choices of a problem.

        Args:
            problem: The problem.
            records: Assignment, retraining seed and accuracy of each.
            **properties: `name` and `about`.
        """
        bitwidths, seeds, accuracy = zip(*records, strict=True)
        described: dict[str, Any] = {
            "full_precision_accuracy": problem.full_precision_accuracy,
            "layers": problem.layers,
            "choices": problem.choices,
            "name": problem.name,
            "quantizer": problem.quantizer,
            "min_relative_accuracy": problem.min_relative_accuracy,
            "released_constants": problem.released_constants,
        }
        return cls(list(bitwidths), accuracy, seeds, **described | properties)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table, whole or not at all: an `.npz` file with `metadata.json` in it.

        Raises:
            ReLeQError: If it cannot be written.
        """
        metadata = {
            "format": FORMAT,
            "name": self.name,
            "quantizer": self.quantizer,
            "assignments": self.size,
            "measured": {str(seed): self.coverage(seed) for seed in self.seeds},
            "full_precision_accuracy": self.full_precision_accuracy,
            "min_relative_accuracy": self.min_relative_accuracy,
            "released_constants": self.released_constants,
            "choices": self.choices,
            "layers": [asdict(layer) for layer in self.layers],
            "about": self.about,
        }
        bitwidths, seeds, accuracy = self.records()
        npz.write(expanded(path), metadata, {"bitwidths": bitwidths, "seeds": seeds, "accuracy": accuracy})

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row an assignment: a column a layer, by name, and one a seed, empty where it was not measured.

        Raises:
            ReLeQError: If the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*(layer.name for layer in self.layers), *(f"accuracy_seed{seed}" for seed in self.seeds)])
        for bitwidths, values in zip(self.bitwidths.tolist(), self.accuracy.T.tolist(), strict=True):
            writer.writerow([*bitwidths, *("" if math.isnan(value) else repr(value) for value in values)])
        target = expanded(path)
        try:
            replace_file(target, text.getvalue())
        except OSError as error:
            raise ReLeQError(f"{target} cannot be written ({error.strerror or error}); give another path") from error

    def records(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]:
        """Return assignments, seeds and accuracies, a record each, as `from_records` takes them."""
        rows, columns = np.nonzero(~np.isnan(self.accuracy.T))
        return self.bitwidths[rows], np.array(self.seeds, dtype=np.int64)[columns], self.accuracy[columns, rows]

    def __len__(self) -> int:
        """Return how many assignments were measured, with any seed."""
        return len(self.bitwidths)

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    @property
    def size(self) -> int:
        """How many assignments a complete table has."""
        return math.prod(map(len, self.choices))

    def coverage(self, seed: int | None = None) -> float:
        """Return the share of all assignments that was measured, in [0, 1]; 1 is complete."""
        return int((~np.isnan(self.values(seed))).sum()) / self.size

    @cached_property
    def whole_seeds(self) -> tuple[int, ...]:
        """The seeds with which every assignment of the table was measured."""
        lacking = [bool(np.isnan(values).any()) for values in self.accuracy]
        return tuple(seed for seed, lacks in zip(self.seeds, lacking, strict=True) if not lacks)

    @cached_property
    def sensitivities(self) -> Sensitivities | None:
        """How much each layer alone suffers at each bitwidth, by several proxies with what they cost; or `None`.

        Raises:
            ReLeQError: If what the file holds of it is damaged.
        """
        return parse(self.about.get("sensitivities"), self.num_layers)

    @cached_property
    def digest(self) -> str:
        """A hash of what was measured."""
        content = hashlib.sha256()
        content.update(json.dumps([self.full_precision_accuracy, self.seeds, self.bitwidths.shape]).encode())
        content.update(self.bitwidths.tobytes())
        content.update(self.accuracy.tobytes())
        return content.hexdigest()

    def values(self, seed: int | None = None) -> NDArray[np.float64]:
        """Return the accuracy of every row of `bitwidths`, shape `(rows,)`; NaN where it was not measured.

        Raises:
            ReLeQError: If there is no such seed.
        """
        if seed is None:
            wanted = self.whole_seeds or self.seeds
            values: NDArray[np.float64] = self.accuracy[[self.seeds.index(each) for each in wanted]].mean(axis=0)
            return values
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed.__index__() not in self.seeds:
            has = ", ".join(map(str, self.seeds))
            raise ReLeQError(
                f"the table {self.name!r} has no seed {short(seed)}; choose from {has}, or None for the mean"
            )
        return self.accuracy[self.seeds.index(seed.__index__())]

    def query(self, bitwidths: Sequence[int], seed: int | None = None) -> float:
        """Return the accuracy of an assignment, in [0, 1].

        Args:
            bitwidths: One a layer.
            seed: The retraining seed; `None` is the mean, see above.

        Raises:
            ReLeQError: If it was not measured.
        """
        try:
            return self._answers[seed][bitwidths]  # type: ignore[index]  # a list has no hash
        except (KeyError, TypeError):
            found = self.get(bitwidths, seed)
        if found is not None:
            return found
        if not self.fits(bitwidths):
            alike = len(set(self.choices)) == 1
            which = f"out of {self.choices[0]}" if alike else f"out of {', '.join(map(str, self.choices))}"
            raise ReLeQError(
                f"the assignment {short(bitwidths)} does not fit the table {self.name!r}; "
                f"give {self.num_layers} bitwidths, one a layer, {which}"
            )
        measured, how = len(self._answers[seed]), "with all seeds" if seed is None else f"with seed {seed}"
        raise ReLeQError(
            f"the table {self.name!r} lacks the assignment {short(bitwidths)}: {measured} of {self.size} were measured "
            f'{how}; ask for one of them, or give fill="nearest" to the problem'
        )

    def get(self, bitwidths: Sequence[int], seed: int | None = None) -> float | None:
        """Return the accuracy of an assignment; `None` if it was not measured."""
        if not isinstance(seed, int | None):  # NumPy's integers; a list has no hash
            self.values(seed)
            seed = operator.index(seed)
        if seed not in self._answers:
            rows, values = map(tuple, self.bitwidths.tolist()), self.values(seed).tolist()
            known = zip(rows, values, strict=True)
            self._answers[seed] = {row: value for row, value in known if not math.isnan(value)}
        try:
            return self._answers[seed].get(tuple(map(operator.index, bitwidths)))
        except TypeError:
            return None

    def fits(self, bitwidths: Sequence[int]) -> bool:
        """Return whether this is an assignment of the choices, measured or not."""
        try:
            given = list(map(operator.index, bitwidths))
        except TypeError:
            return False
        return len(given) == self.num_layers and all(map(operator.contains, self.choices, given))

    def seed_noise(self, min_relative_accuracy: float = 0.0) -> float | None:
        """Return the root mean square difference between two seeds of an assignment; `None` if none has two.

        Args:
            min_relative_accuracy: Of assignments whose mean over the seeds is at least that; those that hardly work
                differ most.
        """
        several = self.accuracy[:, (~np.isnan(self.accuracy)).sum(axis=0) > 1]
        if several.size:
            least = min_relative_accuracy * self.full_precision_accuracy
            several = several[:, np.nanmean(several, axis=0) >= least]
        if not several.size:
            return None
        return float(np.sqrt(2.0 * np.nanvar(several, axis=0, ddof=1).mean()))

    def landscape(
        self,
        seed: int | None = None,
        *,
        bitwidths: Any = None,
        reward: str | Objective = "constrained",
        cost: str = "mean_bits",
        max_cost: float | None = None,
        min_relative_accuracy: float | None = None,
    ) -> Landscape:
        """Return what was measured under one objective; keep it if several questions are asked of it.

        Args:
            seed: The retraining seed; `None` is the mean, see above.
            bitwidths: To choose from, see `ReLeQEnv`. Default: all that the table has.
            reward: See there.
            cost: See there.
            max_cost: See there.
            min_relative_accuracy: See there. Default: the table's.

        Raises:
            ReLeQError: In one line, if an argument is not accepted.
        """
        names = [layer.name for layer in self.layers]
        choices = check_choices(bitwidths, names, self.choices, f"the table {self.name!r}")
        model = cost_model(cost)
        if max_cost is not None:
            max_cost = check_fraction("max_cost", max_cost)
        least = self.min_relative_accuracy if min_relative_accuracy is None else min_relative_accuracy
        check_fraction("min_relative_accuracy", least)
        costs = cost_matrix(cost, model, self.layers, choices)
        check_positive(cost, costs)
        cheapest = cheapest_share(costs)
        check_max_cost(max_cost, cheapest)
        settings = RewardSettings(float(least), cheapest, self.released_constants)
        objective = make_objective(reward, settings, max_cost)
        return self.landscape_of(
            choices, CostTerms(costs, self.layers, choices), objective, float(least), max_cost, seed
        )

    def landscape_of(
        self,
        choices: Choices,
        terms: CostTerms,
        objective: Objective,
        min_relative_accuracy: float,
        max_cost: float | None,
        seed: int | None,
    ) -> Landscape:
        """Return what was measured under an objective that is there already; see `landscape`.

        Args:
            choices: To choose from.
            terms: Costs of indices into them.
            objective: Of State of Relative Accuracy and State of Quantization.
            min_relative_accuracy: The constraint.
            max_cost: The bound, or `None`.
            seed: The retraining seed; `None` is the mean.
        """
        values = self.values(seed)
        known = ~np.isnan(values)
        for column, of_layer in zip(self.bitwidths.T, choices, strict=True):
            known &= np.isin(column, of_layer)
        rows = self.bitwidths[known]
        indices = [np.searchsorted(of_layer, column) for column, of_layer in zip(rows.T, choices, strict=True)]
        q = terms(np.stack(indices, axis=1))[:, 0]
        return Landscape(
            rows, values[known], q, self.full_precision_accuracy, objective, min_relative_accuracy, max_cost
        )

    def optimum(self, seed: int | None = None, **objective: Any) -> Answer:
        """Return the best of what was measured. Arguments are those of `landscape`."""
        return self.landscape(seed, **objective).optimum()

    def regret(self, bitwidths: Sequence[int], seed: int | None = None, **objective: Any) -> float:
        """Return how far the objective of an assignment is below the optimum's. Arguments: see `landscape`."""
        return self.landscape(seed, **objective).regret(bitwidths)

    def rank(self, bitwidths: Sequence[int], seed: int | None = None, **objective: Any) -> int:
        """Return 1 + how many assignments are better. Further arguments are those of `landscape`."""
        return self.landscape(seed, **objective).rank(bitwidths)

    def pareto_front(self, seed: int | None = None, **objective: Any) -> list[Answer]:
        """Return what none beats in cost and accuracy, by rising cost. Arguments are those of `landscape`."""
        return self.landscape(seed, **objective).pareto_front()

    def curve(self, seed: int | None = None, **objective: Any) -> list[tuple[float, Answer]]:
        """Return every budget with the most accurate answer within it. Arguments are those of `landscape`."""
        return self.landscape(seed, **objective).curve()

    def hypervolume(
        self,
        assignments: Sequence[Sequence[int]] | None = None,
        reference: tuple[float, float] = (1.0, 0.0),
        seed: int | None = None,
        **objective: Any,
    ) -> float:
        """Return the area in cost and accuracy that assignments, by default all, dominate.

        Args:
            assignments: Which.
            reference: The State of Quantization and the accuracy that bound the area.
            seed: See `landscape`.
            **objective: See there.
        """
        return self.landscape(seed, **objective).hypervolume(assignments, reference)

    def summary(self, seed: int | None = None, **objective: Any) -> dict[str, Any]:
        """Return how hard the search is, JSON-able. Arguments are those of `landscape`.

        Returns:
            `assignments`, `coverage`, `seed_noise`, `passing` (the share that keeps the constraints), `optimum`,
            `local_optima` (how many), `random_search_evaluations` (mean until the optimum's objective is found) and
            `random_search_regret` (expected, by how many assignments were drawn).
        """
        landscape = self.landscape(seed, **objective)
        regrets = landscape.random_search_regret(1000)
        drawn = [draws for draws in (1, 10, 30, 50, 100, 300, 1000) if draws <= len(regrets)]
        return {
            "assignments": len(landscape),
            "coverage": self.coverage(seed),
            "seed_noise": self.seed_noise(),
            "passing": landscape.passing(),
            "optimum": landscape.optimum()._asdict(),
            "local_optima": len(landscape.local_optima()),
            "random_search_evaluations": landscape.random_search_evaluations(),
            "random_search_regret": {draws: float(regrets[draws - 1]) for draws in drawn},
        }
