"""What is to be decided: a bitwidth for every layer, and how good each assignment is."""

import dataclasses
import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from releq_env.choices import Choices, check_choices
from releq_env.cost import COSTS, CostTerms, cheapest_share, check_positive, cost_matrix, cost_model
from releq_env.errors import ReLeQError, check_choice, check_fraction, check_names, check_whole, short
from releq_env.evaluation import Evaluation, EvaluationCache, Evaluator, FunctionSource, default_cache
from releq_env.layer_info import LayerInfo
from releq_env.paths import data_folder
from releq_env.quantization.registry import QUANTIZERS
from releq_env.reward import (
    LENET_CONSTANTS,
    Objective,
    ReleasedConstants,
    RewardSettings,
    check_max_cost,
    check_reward,
    exceeds,
    make_objective,
)
from releq_env.seeds import Seed
from releq_env.tables import AccuracyTable, Answer, Landscape, TableSource
from releq_env.tables.layers import check_layers, plain_layers
from releq_env.workers.ways import check_parallel

if TYPE_CHECKING:
    from torch import nn

    from releq_env.evaluation.own import Own
    from releq_env.tasks import PretrainingRecipe, RetrainingRecipe, Task

_ANY_BITS = tuple(range(1, 33))


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Layers, the bitwidths each may have, what they cost, and where accuracies come from.

    Made by `from_task`, `from_network`, `from_table` or `from_function`. Immutable but for its evaluator's memory
    and counters; a deep copy is the problem itself.

    Attributes:
        name: What it is called.
        layers: The quantizable layers, first to last.
        available: The bitwidths of each layer that can be measured.
        choices: Those that are to choose from, ascending.
        evaluator: Measures assignments; shared by all that is made from this problem.
        quantizer: Name of the quantizer, `None` where there is none.
        reward: A name in `releq_env.reward.REWARDS`, or `(a, q) -> float`.
        cost: A name in `releq_env.cost.COSTS`, or `csv:PATH`: what the State of Quantization measures.
        max_cost: Upper bound on the State of Quantization, or `None`.
        min_relative_accuracy: Accuracy constraint, in (0, 1].
        released_constants: Constants of the reward `released`.
        own: Of a user's own network what is not quantized and why (`left_out`), and the short recipe (`recipe`,
            `found`); else `None`.

    Raises:
        ReLeQError: If reward, cost, bound or constraint is not accepted.
    """

    name: str
    layers: tuple[LayerInfo, ...]
    available: Choices
    choices: Choices
    evaluator: Evaluator
    quantizer: str | None = None
    reward: str | Objective = "constrained"
    cost: str = "mean_bits"
    max_cost: float | None = None
    min_relative_accuracy: float = 0.99
    released_constants: ReleasedConstants = LENET_CONSTANTS
    own: "Own | None" = None

    def __post_init__(self) -> None:
        _check_objective(self.reward, self.cost, self.max_cost, self.min_relative_accuracy)
        for name in ("max_cost", "min_relative_accuracy"):  # Python's own: NumPy's would be compared in their precision
            if (bound := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(bound))
        check_max_cost(self.max_cost, self.cheapest)  # in any case: only now is it seen whether costs are numbers

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # not what is derived

    def __deepcopy__(self, memo: dict[int, object]) -> "Problem":
        return self

    @classmethod
    def from_task(
        cls,
        task: "str | Task" = "digits",
        *,
        bitwidths: Any = None,
        quantizer: str = "lsq",
        reward: str | Objective = "constrained",
        cost: str = "mean_bits",
        max_cost: float | None = None,
        min_relative_accuracy: float | None = None,
        retrain_images: int | None = None,
        retrain_seed: Seed = 0,
        data_root: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = "auto",
        device: str = "cpu",
        precision: str = "auto",
        parallel: str = "processes",
        workers: int | None = None,
    ) -> "Problem":
        """Return the problem of a task, with accuracies by short retraining. Arguments are those of `ReLeQEnv`.

        Raises:
            ReLeQError: In one line, if an argument is not accepted; before anything that takes time.
        """
        from releq_env.evaluation.live import live_source  # only now: it needs torch
        from releq_env.quantization.layers import quantizable_layers, with_scales
        from releq_env.tasks import get_task

        task = get_task(task)
        check_choice("quantizer", quantizer, QUANTIZERS)
        supported = QUANTIZERS[quantizer].bitwidths
        least = task.min_relative_accuracy if min_relative_accuracy is None else min_relative_accuracy
        _check_objective(reward, cost, max_cost, least)
        check_parallel(parallel, workers)
        data_folder(data_root)
        # The untrained network has the layers already; training it may take long.
        layers = with_scales(quantizable_layers(task.untrained(), task.dataset.input_shape), quantizer)
        available = (supported,) * len(layers)
        choices = check_choices(bitwidths, [layer.name for layer in layers], available, quantizer)
        untrained = cls(
            task.name,
            layers,
            available,
            choices,
            evaluator=Evaluator(None),  # type: ignore[arg-type]  # nothing is asked of it
            quantizer=quantizer,
            reward=reward,
            cost=cost,
            max_cost=max_cost,
            min_relative_accuracy=least,
            released_constants=task.released_constants,
        )
        source = live_source(
            task,
            quantizer=quantizer,
            retrain_images=retrain_images,
            retrain_seed=retrain_seed,
            data_root=data_root,
            device=device,
            precision=precision,
            parallel=parallel,
            workers=workers,
        )
        evaluator = Evaluator(source)
        problem = dataclasses.replace(untrained, layers=source.layers, evaluator=evaluator)
        if cache is not None:  # only now, with all arguments checked, is a file made
            evaluator.cache = EvaluationCache(default_cache() if cache == "auto" else cache)
        return problem

    @classmethod
    def from_network(
        cls,
        model: "nn.Module",
        train_data: Any,
        validation_data: Any,
        *,
        test_data: Any = None,
        loss: Callable[[Any, Any], Any] | None = None,
        metric: Callable[[Any, Any], Any] | None = None,
        distillation: Callable[[Any, Any], Any] | None = None,
        skip: Any = (),
        groups: Any = (),
        bitwidths: Any = None,
        quantizer: str = "lsq",
        reward: str | Objective = "constrained",
        cost: str = "mean_bits",
        max_cost: float | None = None,
        min_relative_accuracy: float = 0.99,
        retraining: "RetrainingRecipe | None" = None,
        seconds: float = 10.0,
        pretraining: "PretrainingRecipe | None" = None,
        retrain_seed: Seed = 0,
        cache_key: str | None = None,
        name: str | None = None,
        data_limit: float = 4.0,
        cache: str | os.PathLike[str] | None = "auto",
        device: str = "cpu",
        precision: str = "auto",
        parallel: str = "processes",
        workers: int | None = None,
    ) -> "Problem":
        """Return the problem of a network of one's own, with accuracies by short retraining.

        The network is run once to find its layers; it is copied, and stays as it is. What was found, what is
        left out, and the recipe are said in a line each. See `docs/own_network.md`.

        Args:
            model: Any `torch.nn.Module` of one input, in float32: trained, or to be trained by `pretraining`.
            train_data: A pair `(inputs, targets)` of tensors or arrays, inputs as the network takes them; a
                map-style `Dataset` of such pairs; or a `DataLoader`. Read once.
            validation_data: Likewise: accuracies are measured on it, and nothing is trained on it.
            test_data: Likewise, for final reports only; `None`: there is none.
            loss: `(outputs, targets) -> scalar`. Default: cross-entropy, for a classifier.
            metric: `(outputs, targets) -> number` over all of validation, larger is better, in (0, 1] for the
                network itself; below 0 counts as 0. Default: the share of right classes, for a classifier.
            distillation: `(outputs, full-precision outputs) -> scalar`, a part of the loss. Default: of
                cross-entropy that with the full-precision network's probabilities, else nothing.
            skip: Names of modules that stay in full precision, with all that is in them.
            groups: Layers that share a bitwidth, and are decided as one: lists of their names, or a dictionary of
                such lists by the groups' names.
            bitwidths: To choose from, see `ReLeQEnv`.
            quantizer: See there.
            reward: See there.
            cost: See there.
            max_cost: See there.
            min_relative_accuracy: See there.
            retraining: The short recipe. Default: learning rate and number of examples are found.
            seconds: How long an evaluation may take, about, where they are found.
            pretraining: How the network is trained first, `None`: it is trained.
            retrain_seed: Seeds the retraining.
            cache_key: A name that stands for loss, metric and distillation where these are not torch's, and changes
                with them. Without it accuracies are kept in memory only.
            name: What the problem is called. Default: the network's class.
            data_limit: How many GB (1e9 bytes) the data may take in memory; what is more is kept in files.
            cache: See `ReLeQEnv`.
            device: See there.
            precision: See there; `"auto"` is fp32 where bf16 changes the network's accuracy.
            parallel: See there.
            workers: See there.

        Raises:
            ReLeQError: In one line, if something is not accepted, or the network cannot be run on the data.
        """
        from releq_env.evaluation.own import check_own, own_source  # only now: they need torch

        _check_objective(reward, cost, max_cost, min_relative_accuracy)
        check_own(quantizer, retraining, seconds, pretraining, retrain_seed, device, precision, parallel, workers)
        supported = QUANTIZERS[quantizer].bitwidths
        decision: dict[str, Any] = {"reward": reward, "cost": cost, "max_cost": max_cost}
        decision["min_relative_accuracy"] = min_relative_accuracy
        made: list[Problem] = []

        def decide(source: Any) -> tuple[Choices, Path | None]:
            available = (supported,) * len(source.layers)
            chosen = check_choices(bitwidths, [layer.name for layer in source.layers], available, quantizer)
            named = type(model).__name__ if name is None else name
            made.append(cls(named, source.layers, available, chosen, Evaluator(source), quantizer, **decision))
            if cache is not None:  # only now, with all arguments checked, is a file made
                made[0].evaluator.cache = EvaluationCache(default_cache() if cache == "auto" else cache)
            file = made[0].evaluator.cache
            return chosen, None if file is None else file.path.with_suffix(".recipes")

        source, own = own_source(
            model,
            train_data,
            validation_data,
            groups=groups,
            quantizer=quantizer,
            decide=decide,
            retraining=retraining,
            seconds=seconds,
            retrain_seed=retrain_seed,
            device=device,
            precision=precision,
            parallel=parallel,
            workers=workers,
            test_data=test_data,
            loss=loss,
            metric=metric,
            distillation=distillation,
            skip=skip,
            pretraining=pretraining,
            min_relative_accuracy=min_relative_accuracy,
            cache_key=cache_key,
            name=name,
            data_limit=data_limit,
        )
        evaluator = Evaluator(source, made[0].evaluator.cache)
        return dataclasses.replace(made[0], layers=source.layers, evaluator=evaluator, own=own)

    @classmethod
    def from_table(
        cls,
        table: AccuracyTable | str | os.PathLike[str],
        *,
        bitwidths: Any = None,
        reward: str | Objective = "constrained",
        cost: str = "mean_bits",
        max_cost: float | None = None,
        min_relative_accuracy: float | None = None,
        seed: int | None = 0,
        fill: str | None = None,
    ) -> "Problem":
        """Return the problem of a table: every accuracy is looked up, and the optimum is known. Needs no torch.

        Args:
            table: A table, the name of one that comes with the package, or the path of one.
            bitwidths: To choose from, see `ReLeQEnv`. Default: all that the table has.
            reward: See there.
            cost: See there.
            max_cost: See there.
            min_relative_accuracy: See there. Default: the table's.
            seed: The retraining seed whose accuracies are given; `None` is the mean over the table's seeds.
            fill: `"nearest"` fills in what a partial table lacks, see `TableSource`. `None`: that is an error.

        Raises:
            ReLeQError: In one line, if an argument is not accepted, or there is no such table.
        """
        known = table if isinstance(table, AccuracyTable) else AccuracyTable.load(table)
        names = [layer.name for layer in known.layers]
        return cls(
            known.name,
            known.layers,
            known.choices,
            check_choices(bitwidths, names, known.choices, f"the table {known.name!r}"),
            Evaluator(TableSource(known, seed, fill)),
            quantizer=known.quantizer,
            reward=reward,
            cost=cost,
            max_cost=max_cost,
            min_relative_accuracy=known.min_relative_accuracy
            if min_relative_accuracy is None
            else min_relative_accuracy,
            released_constants=known.released_constants,
        )

    @classmethod
    def from_function(
        cls,
        num_layers: int,
        choices: Any,
        accuracy: Callable[[tuple[int, ...]], float],
        full_precision_accuracy: float = 1.0,
        layers: Sequence[LayerInfo] | None = None,
        *,
        name: str = "function",
        **decision: Any,
    ) -> "Problem":
        """Return a problem whose accuracies a Python function returns.

        Args:
            num_layers: How many layers there are.
            choices: The bitwidths to choose from, 1 to 32: one set for all layers, or a list of sets, one a layer.
            accuracy: Assignment, a tuple of bitwidths -> accuracy in [0, 1]. It is asked once for each.
            full_precision_accuracy: What accuracies are divided by, in (0, 1].
            layers: Descriptions of the layers. Default: all alike, of one weight.
            name: What the problem is called.
            **decision: `reward`, `cost`, `max_cost` and `min_relative_accuracy` (default 0.99).

        Raises:
            ReLeQError: In one line, if an argument is not accepted.
        """
        num_layers = check_whole("num_layers", num_layers, 1, "")
        if not callable(accuracy):
            raise ReLeQError(f"accuracy={accuracy!r} is not a function; give one from a tuple of bitwidths to a number")
        check_names(decision, ("reward", "cost", "max_cost", "min_relative_accuracy"), "Problem.from_function")
        layers = plain_layers(num_layers) if layers is None else check_layers(layers, num_layers)
        names = [layer.name for layer in layers]
        if choices is None:
            raise ReLeQError("choices=None is not accepted; give the bitwidths to choose from, e.g. [2, 4, 8]")
        checked = check_choices(choices, names, (_ANY_BITS,) * num_layers, "Problem.from_function")
        full_precision = check_fraction("full_precision_accuracy", full_precision_accuracy)
        evaluator = Evaluator(FunctionSource(accuracy, full_precision, num_layers))
        return cls(name, layers, checked, checked, evaluator, **decision)

    def replace(self, **changes: Any) -> "Problem":
        """Return the problem with another `bitwidths`, `reward`, `cost`, `max_cost` or `min_relative_accuracy`.

        Accuracies do not depend on these: the evaluator is shared.

        Raises:
            ReLeQError: If an argument is another one, or not accepted.
        """
        check_names(changes, ("bitwidths", "reward", "cost", "max_cost", "min_relative_accuracy"), "Problem.replace")
        if "bitwidths" in changes:
            names = [layer.name for layer in self.layers]
            changes["choices"] = check_choices(changes.pop("bitwidths"), names, self.available, self._supported_by)
        return dataclasses.replace(self, **changes)

    def sharing(self, evaluator: Evaluator) -> "Problem":
        """Return the problem with another evaluator, of the same accuracies."""
        return dataclasses.replace(self, evaluator=evaluator)

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    @property
    def full_precision_accuracy(self) -> float:
        """Validation accuracy of the network before quantizing, in (0, 1]."""
        return self.evaluator.full_precision_accuracy

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """`C[layer, choice]` in the cost's own unit, shape `(layers, most choices)`."""
        costs = cost_matrix(self.cost, cost_model(self.cost), self.layers, self.choices)
        check_positive(self.cost, costs)
        return costs

    @cached_property
    def cheapest(self) -> float:
        """State of Quantization of the cheapest assignment, in (0, 1]."""
        return cheapest_share(self.costs)

    @cached_property
    def cost_terms(self) -> CostTerms:
        """The cost terms, of indices into the choices."""
        return CostTerms(self.costs, self.layers, self.choices)

    @cached_property
    def value(self) -> Objective:
        """The objective as a function of State of Relative Accuracy and State of Quantization."""
        settings = RewardSettings(self.min_relative_accuracy, self.cheapest, self.released_constants)
        return make_objective(self.reward, settings, self.max_cost)

    @cached_property
    def landscape(self) -> Landscape:
        """All that the table of the problem has measured of it: optimum, ranks, Pareto front.

        Raises:
            ReLeQError: If it is not made from a table.
        """
        source = self.evaluator.source
        if not isinstance(source, TableSource):
            raise ReLeQError(f"only of a table is the optimum known, and {self.name} has none; see Problem.from_table")
        return source.table.landscape_of(
            self.choices, self.cost_terms, self.value, self.min_relative_accuracy, self.max_cost, source.seed
        )

    def optimum(self) -> Answer:
        """Return the best assignment of the problem's table.

        Raises:
            ReLeQError: If it has none.
        """
        return self.landscape.optimum()

    def regret(self, bitwidths: Sequence[int]) -> float:
        """Return how far the objective of an assignment is below that of the best one of the problem's table.

        Raises:
            ReLeQError: If it has no table, or the assignment was not measured.
        """
        return self.landscape.regret(bitwidths)

    @cached_property
    def filled(self) -> Callable[[tuple[int, ...]], bool] | None:
        """Tells whether the accuracy of an assignment is filled in, not measured; `None` where all are measured."""
        source = self.evaluator.source
        return source.filled if isinstance(source, TableSource) and source.fill is not None else None

    def objective(self, evaluation: Evaluation) -> float:
        """Return how good an evaluated assignment is; `max_cost` included."""
        q = self.state_of_quantization(evaluation.bitwidths)
        return float(self.value(evaluation.relative_accuracy, q))

    def merit(self, evaluation: Evaluation) -> tuple[bool, float, float]:
        """Return what the best assignment has most of: it keeps `max_cost`, then the objective, then accuracy."""
        objective = self.objective(evaluation)
        known = -math.inf if math.isnan(objective) else objective
        return self.keeps_max_cost(evaluation.bitwidths), known, evaluation.accuracy

    def is_success(self, evaluation: Evaluation) -> bool:
        """Return whether an evaluated assignment keeps the accuracy constraint, and `max_cost` if there is one."""
        kept = evaluation.relative_accuracy >= self.min_relative_accuracy
        return bool(kept and self.keeps_max_cost(evaluation.bitwidths))

    def state_of_quantization(self, bitwidths: Sequence[int]) -> float:
        """Return q of an assignment: its cost over that of every layer's dearest choice, in (0, 1]."""
        return float(self.cost_terms(self.indices(bitwidths))[0])

    def terms(self, bitwidths: Sequence[int]) -> dict[str, float]:
        """Return all cost terms of an assignment by name; see `releq_env.cost.CostTerms`."""
        return dict(zip(CostTerms.names, self.cost_terms(self.indices(bitwidths)).tolist(), strict=True))

    def keeps_max_cost(self, bitwidths: Sequence[int]) -> bool:
        """Return whether an assignment keeps `max_cost`."""
        return self.max_cost is None or not exceeds(self.state_of_quantization(bitwidths), self.max_cost)

    def size_in_bytes(self, bitwidths: Sequence[int]) -> int:
        """Return the bytes of the quantized weights: codes packed, with the scales that the quantizer stores."""
        try:
            pairs = list(zip(self.layers, map(operator.index, bitwidths), strict=True))  # also of other bits
        except (TypeError, ValueError):
            accepted = f"give {self.num_layers} whole numbers, one a layer"
            raise ReLeQError(f"the assignment {short(bitwidths)} does not fit; {accepted}") from None
        return int(sum(COSTS["size"](each, bits) for layer, bits in pairs for each in layer.each))

    def uniform(self) -> list[tuple[int, ...]]:
        """Return the assignments that give all layers the same bitwidth, by rising bitwidth."""
        common = set(self.choices[0]).intersection(*self.choices)
        return [(bits,) * self.num_layers for bits in sorted(common)]

    def by_module(self, bitwidths: Sequence[int]) -> dict[str, int]:
        """Return the bitwidths of an assignment by the names of the network's modules, those of groups too."""
        pairs = zip(self.layers, self.check(bitwidths), strict=True)
        return {name: bits for layer, bits in pairs for name in layer.modules}

    def check(self, bitwidths: Any) -> tuple[int, ...]:
        """Return an assignment as a tuple of integers, checked.

        Raises:
            ReLeQError: If it does not fit the layers and their choices.
        """
        return self.assignment(self.indices(bitwidths).tolist())

    def assignment(self, indices: Iterable[int]) -> tuple[int, ...]:
        """Return the assignment of indices into the choices, one a layer: the inverse of `indices`.

        Raises:
            IndexError: If one is beyond its layer's choices.
            ValueError: If there are more or fewer than layers.
        """
        return tuple(of_layer[index] for of_layer, index in zip(self.choices, indices, strict=True))

    def indices(self, bitwidths: Any) -> NDArray[np.int64]:
        """Return an assignment as indices into the choices, shape `(layers,)`.

        Raises:
            ReLeQError: If it does not fit the layers and their choices.
        """
        try:
            found = [of_layer[operator.index(bits)] for of_layer, bits in zip(self._index, bitwidths, strict=True)]
        except (KeyError, TypeError, ValueError):
            alike = len(set(self.choices)) == 1
            which = f"out of {self.choices[0]}" if alike else f"out of {', '.join(map(str, self.choices))}"
            accepted = f"give {self.num_layers} bitwidths, one a layer, {which}"
            raise ReLeQError(f"the assignment {short(bitwidths)} does not fit; {accepted}") from None
        return np.array(found)

    @cached_property
    def _index(self) -> list[dict[int, int]]:
        return [{bits: index for index, bits in enumerate(of_layer)} for of_layer in self.choices]

    @property
    def _supported_by(self) -> str:
        return self.quantizer or self.name


def _check_objective(reward: Any, cost: Any, max_cost: Any, min_relative_accuracy: Any) -> None:
    check_reward(reward)
    cost_model(cost)
    if max_cost is not None:
        check_fraction("max_cost", max_cost)
    check_fraction("min_relative_accuracy", min_relative_accuracy)
