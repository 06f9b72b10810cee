"""The result of finalizing an assignment: its loss over the seeds, its bits, its bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from torch import nn

from releq_env.export import load_packed
from releq_env.export.folder import PACKED
from releq_env.finalizing.progress import counted
from releq_env.tasks.layouts import as_given
from releq_env.tasks.own_outputs import separate_outputs


@dataclass(frozen=True)
class FinalResult:
    """What came out.

    Attributes:
        task: Name of the task.
        network_name: What its network is called.
        quantizer: Name of the quantizer.
        layers: Names of the layers.
        bitwidths: One a layer.
        measured_on: `"test"` or `"validation"`: what accuracies and losses are of.
        seeds: Of the retrainings.
        accuracies: Of the quantized networks, one a seed, in [0, 1].
        validation_accuracies: Likewise, on validation.
        control: Which full-precision networks are the control.
        control_accuracies: Theirs, one a seed; of the pre-trained network the same for all.
        control_validation_accuracies: Likewise, on validation.
        average_bits: Mean over the layers.
        weighted_bits: Mean over the weights.
        size_bytes: Of the quantized weights, codes packed, with their scales.
        packed_bytes: Of the whole network, in theory: with biases, normalisation and whatever else is not quantized.
        file_bytes: Of the packed file.
        full_precision_bytes: Of the whole network before quantizing.
        folder: Where all of it lies.
    """

    task: str
    network_name: str
    quantizer: str
    layers: tuple[str, ...]
    bitwidths: tuple[int, ...]
    measured_on: str
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    validation_accuracies: tuple[float, ...]
    control: str
    control_accuracies: tuple[float, ...]
    control_validation_accuracies: tuple[float, ...]
    average_bits: float
    weighted_bits: float
    size_bytes: int
    packed_bytes: int
    file_bytes: int
    full_precision_bytes: int
    folder: Path
    _original: nn.Module = field(repr=False, compare=False)

    @property
    def losses(self) -> tuple[float, ...]:
        """Control minus quantized, in percentage points, one a seed: each is set against the control of its seed."""
        pairs = zip(self.control_accuracies, self.accuracies, strict=True)
        return tuple(100.0 * (control - accuracy) for control, accuracy in pairs)

    @property
    def control_accuracy(self) -> float:
        """Mean of the control's accuracies, in [0, 1]."""
        return float(np.mean(self.control_accuracies))

    @property
    def loss(self) -> float:
        """Mean of the losses, in percentage points."""
        return float(np.mean(self.losses))

    @property
    def loss_std(self) -> float | None:
        """Standard deviation of a seed's loss, in percentage points; `None` for one seed.

        As in `loss_interval` seeds of control and quantized network are not taken for pairs: variances add up.
        """
        if len(self.seeds) < 2:
            return None
        return 100.0 * float(np.var(self.accuracies, ddof=1) + np.var(self.control_accuracies, ddof=1)) ** 0.5

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """Interval that holds the mean loss of all seeds with a confidence of 95 %.

        `None` for one seed, or where all accuracies agree, which says nothing of how others would differ.

        Seeds of control and quantized network are not taken for pairs: they share the order of the examples, no more.
        """
        control, quantized = ([100.0 * each for each in of] for of in (self.control_accuracies, self.accuracies))
        return interval_of_difference(control, quantized)

    @property
    def best_seed(self) -> int:
        """The seed whose network is best on validation, the first of equals."""
        return self.seeds[int(np.argmax(self.validation_accuracies))]

    @property
    def network(self) -> nn.Module:
        """A network with the dequantized weights of the best seed, in evaluation mode, read from the packed file."""
        return as_given(separate_outputs(load_packed(self.folder / PACKED, self._original)))

    def described(self) -> dict[str, Any]:
        """Return what `result.json` says of it, JSON-able."""
        names = [name for name in self.__dataclass_fields__ if name not in ("folder", "_original", "network_name")]
        known = {"task": self.task, "network": self.network_name} | {name: getattr(self, name) for name in names}
        for name in ("control_accuracy", "loss", "loss_std", "loss_interval", "losses", "best_seed"):
            known[name] = getattr(self, name)
        return known

    def __str__(self) -> str:
        loss = f"{self.loss:.2f} points of {self.measured_on} accuracy"
        if self.loss_interval is not None:
            low, high = self.loss_interval
            loss += f" (95 % interval {low:.2f} to {high:.2f}, standard deviation {self.loss_std:.2f})"
        accuracies = self._by_seed(self.accuracies)
        control = f"{self.control_accuracy:.2%} ({self.control})"
        if len(set(self.control_accuracies)) > 1:
            control = f"{self._by_seed(self.control_accuracies)}; {self.control}"
        lines = [
            f"{self.task} with {self.quantizer}: {' '.join(map(str, self.bitwidths))}",
            f"loss               {loss}, {counted(len(self.seeds), 'seed')}",
            f"quantized          {accuracies}",
            f"full precision     {control}",
            f"bits               {self.average_bits:.2f} a layer, {self.weighted_bits:.2f} a weight on average",
            f"size               {self.size_bytes:,} bytes of weights; file {self.file_bytes:,} bytes, "
            f"{self.full_precision_bytes / self.file_bytes:.1f} times smaller than {self.full_precision_bytes:,}",
            f"files              {self.folder}",
        ]
        if self.measured_on == "validation":
            lines.insert(2, "                   on validation data, which chose the control: no test data were read")
        return "\n".join(lines)

    def _by_seed(self, accuracies: Sequence[float]) -> str:
        pairs = zip(self.seeds, accuracies, strict=True)
        return ", ".join(f"{accuracy:.2%} (seed {seed})" for seed, accuracy in pairs)


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval that holds the mean of what values are drawn from, by Student's t; `None` for one value.

    Args:
        values: Of independent draws, taken for normally distributed.
        confidence: How often it holds it, in (0, 1).
    """
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.5 + confidence / 2.0, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def interval_of_difference(
    ones: Sequence[float], others: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval that holds the mean of one lot less that of another (Welch 1947); `None` for one value.

    Where one lot is all the same, it is that of `interval`; where both are, there is none.

    Args:
        ones: Of independent draws, taken for normally distributed.
        others: Likewise, of another distribution.
        confidence: How often it holds it, in (0, 1).
    """
    if min(len(ones), len(others)) < 2:
        return None
    difference = float(np.mean(ones) - np.mean(others))
    errors = [float(np.var(values, ddof=1)) / len(values) for values in (ones, others)]
    if (error := sum(errors)) == 0.0:  # of few examples: it says nothing of how they would differ
        return None
    shares = [(each / error) ** 2 / (len(values) - 1) for each, values in zip(errors, (ones, others), strict=True)]
    half = float(stats.t.ppf(0.5 + confidence / 2.0, 1.0 / sum(shares))) * error**0.5
    return difference - half, difference + half
