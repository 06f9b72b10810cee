"""What the files of a run say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from releq_env.cost import COSTS
from releq_env.layer_info import LayerInfo
from releq_env.reward import exceeds

Assignment = tuple[int, ...]
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """An evaluated assignment.

    Attributes:
        bitwidths: The assignment.
        accuracy: On validation, in [0, 1].
        relative_accuracy: Over full precision.
        reward: The objective; NaN where a user's function gave that.
        state_of_quantization: The cost q, in (0, 1].
        average_bits: Mean over layers.
        weighted_bits: Mean over weights.
        retrained: Whether it was measured in this run, not found in a cache.
        seconds: How long the measurement took.
        elapsed: Seconds since the run began.
    """

    bitwidths: Assignment
    accuracy: float
    relative_accuracy: float
    reward: float
    state_of_quantization: float
    average_bits: float
    weighted_bits: float
    retrained: bool
    seconds: float
    elapsed: float


@dataclass(frozen=True)
class View:
    """How good an assignment is, seen with one retraining seed or several.

    Attributes:
        accuracy: On validation, in [0, 1].
        relative_accuracy: Over full precision.
        reward: The objective.
    """

    accuracy: float
    relative_accuracy: float
    reward: float


@dataclass(frozen=True)
class Compared:
    """An assignment that was measured again at the end.

    Attributes:
        kind: `"found"` by the search, or `"uniform"`.
        bitwidths: The assignment.
        keeps_max_cost: Whether it costs no more than allowed.
        found: As measured with the search's retraining seed.
        accuracies: By unseen retraining seed; none where accuracies have no seed.
        confirmed: Their mean, or `None`.
    """

    kind: str
    bitwidths: Assignment
    keeps_max_cost: bool
    found: View
    accuracies: tuple[float, ...] = ()
    confirmed: View | None = None


@dataclass(frozen=True)
class Episodes:
    """Of every episode its return, cost and relative accuracy; all of one length."""

    rewards: Sequence[float]
    costs: Sequence[float]
    relative_accuracies: Sequence[float]


@dataclass(frozen=True)
class Probabilities:
    """The mean probability of each action, by layer.

    Attributes:
        episodes: When they were noted, ascending, by layer.
        values: By layer, shape `(notes, actions)`.
    """

    episodes: Sequence[Sequence[int]]
    values: Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Final:
    """What is left of an assignment's accuracy after final retraining.

    Attributes:
        bitwidths: The assignment.
        measured_on: `"test"` or `"validation"`.
        seeds: Of the retrainings.
        accuracies: One a seed, in [0, 1].
        control: Which full-precision networks it is compared with.
        control_accuracies: Theirs, in [0, 1], one a seed; or of one for all seeds.
        loss: Mean of control minus quantized, in percentage points.
        interval: That holds the loss with a confidence of 95 %; `None` for one seed, or where all agree.
        file_bytes: Of the packed file of the whole network.
        full_precision_bytes: Of the whole network before quantizing.
    """

    bitwidths: Assignment
    measured_on: str
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    control: str
    control_accuracies: tuple[float, ...]
    loss: float
    interval: tuple[float, ...] | None
    file_bytes: int
    full_precision_bytes: int


@dataclass(frozen=True)
class Run:
    """What the files of a run say, checked.

    Attributes:
        folder: Name of its folder.
        settings: What was asked for, as in `config.json`: `algo`, `env`, `seed` and more.
        names: Of the layers, first to last.
        choices: The bitwidths of each layer.
        costs: `C[layer, choice]` in the cost's own unit; a layer with fewer choices than others repeats its last.
        full_precision_accuracy: On validation, in (0, 1].
        min_relative_accuracy: The accuracy constraint.
        max_cost: Upper bound on q, or `None`.
        reward: Name of the objective, `None` for a user's function.
        rows: The evaluated assignments, in order.
        name: Of the problem, or `None` where the files do not say, as with the next three.
        quantizer: Name of the quantizer; without one a bitwidth is no size.
        cost: Name of the cost.
        layers: Descriptions of the layers.
        own: Whether it was made by `releq_env.search`, which measures nothing again at its end.
        ended: Whether such a search has come to its end, which may be before its budget.
        left_out: What of a user's own network is not quantized: name -> reason.
        finals: What final retraining has found.
        depends_on: What the accuracies depend on; nothing where they come from a function.
        versions: Of what was installed, by name.
        candidates: What was compared at the end, best found first; nothing before the end.
        counts: `episodes`, `distinct_evaluations`, `retrained`, seconds; nothing before the end.
        ended_by: What ended it: `budget`, `minutes`, `timesteps` or `agent`; `None` where the files do not say.
        episodes: Of an agent that learns.
        probabilities: Of an agent that has a policy.
    """

    folder: str
    settings: Mapping[str, Any]
    names: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]
    costs: tuple[tuple[float, ...], ...]
    full_precision_accuracy: float
    min_relative_accuracy: float
    max_cost: float | None
    reward: str | None
    rows: tuple[Row, ...]
    name: str | None = None
    quantizer: str | None = None
    cost: str | None = None
    layers: tuple[LayerInfo, ...] | None = None
    own: bool = False
    ended: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    finals: tuple[Final, ...] = ()
    depends_on: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[Compared, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    ended_by: str | None = None
    episodes: Episodes | None = None
    probabilities: Probabilities | None = None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.ended if self.own else bool(self.counts)

    @property
    def settled(self) -> bool:
        """Whether it ended by itself, not by what it was allowed: then its last best is that of any longer run."""
        return self.finished and (self.own or self.ended_by == "agent") and len(self.rows) < (self.budget or math.inf)

    @property
    def budget(self) -> int | None:
        """Distinct evaluations that were allowed, if there was a limit."""
        found = self.settings.get("budget")
        return found if isinstance(found, int) else None

    @cached_property
    def best(self) -> Row | None:
        """The best assignment: it keeps `max_cost`, then has the highest reward, then the highest accuracy."""

        def merit(row: Row) -> tuple[bool, float, float]:
            return self.keeps_max_cost(row), -math.inf if math.isnan(row.reward) else row.reward, row.accuracy

        return max(self.rows, key=merit, default=None)

    def keeps_max_cost(self, row: Row) -> bool:
        """Return whether an assignment keeps `max_cost`."""
        return self.max_cost is None or not exceeds(row.state_of_quantization, self.max_cost)

    def state_of_quantization(self, bitwidths: Sequence[int]) -> float:
        """Return the cost of an assignment over that of the dearest one, in (0, 1]."""
        each = zip(self.costs, self.choices, bitwidths, strict=True)
        return sum(of_layer[known.index(bits)] for of_layer, known, bits in each) / sum(map(max, self.costs))

    @cached_property
    def curve(self) -> tuple[Row, ...]:
        """The best answer for every cost: those that nothing beats in both cost and accuracy, the cheapest first."""
        front: list[Row] = []
        for row in sorted(self.rows, key=lambda each: (each.state_of_quantization, -each.accuracy)):
            if not front or row.accuracy > front[-1].accuracy:
                front.append(row)
        return tuple(front)

    @property
    def sized(self) -> Sequence[LayerInfo]:
        """The layers where a bitwidth is a size in bytes: where something is quantized. Else nothing."""
        return self.layers if self.layers is not None and self.quantizer is not None else ()

    def layer_bytes(self, bitwidths: Sequence[int]) -> list[int]:
        """Return the bytes of each layer's weights, packed, with their scales; nothing where there is no size."""
        pairs = zip(self.sized, bitwidths, strict=False)
        return [int(sum(COSTS["size"](each, bits) for each in layer.each)) for layer, bits in pairs]

    def average_bits(self, bitwidths: Sequence[int]) -> float:
        """Return the mean over the layers, of which several may share a bitwidth."""
        counts = [len(layer.modules) for layer in self.layers] if self.layers is not None else [1] * len(bitwidths)
        return sum(count * bits for count, bits in zip(counts, bitwidths, strict=True)) / sum(counts)

    @property
    def float_bytes(self) -> int:
        """Bytes of the weights at full precision."""
        return FLOAT_BYTES * sum(layer.weights for layer in self.sized)
