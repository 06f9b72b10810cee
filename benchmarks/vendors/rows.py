"""What is measured: a row a choice, and a row an assignment's final retraining; each in a CSV file."""

import csv
import io
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from releq_env.errors import ReLeQError
from releq_env.files import replace_file


class Key(NamedTuple):
    """What a choice was asked for.

    Attributes:
        network: Name in `NETWORKS`.
        weights: SHA-256 of the trained network, its first digits: what another machine trains is another network.
        vendor: Name in `VENDORS`.
        budget: Bits a weight on average, at most.
    """

    network: str
    weights: str
    vendor: str
    budget: float


class Chosen(NamedTuple):
    """What a tool has chosen; a row of `choices.csv`.

    Attributes:
        network: As in `Key`; so the next three.
        weights: "
        vendor: "
        budget: "
        bitwidths: One a layer, with spaces; empty if there is no answer.
        average_bits: Mean over the layers.
        weighted_bits: Mean over the weights.
        seconds: What choosing took.
        file_bytes: Of the file that the tool itself writes.
        note: Why there is no answer.
        version: Of the tool.
        machine: It ran on.
    """

    network: str
    weights: str
    vendor: str
    budget: float
    bitwidths: str
    average_bits: float
    weighted_bits: float
    seconds: float
    file_bytes: int
    note: str
    version: str
    machine: str

    @property
    def key(self) -> Key:
        """What defines it."""
        return Key(self.network, self.weights, self.vendor, self.budget)


class Retrained(NamedTuple):
    """What became of an assignment; a row of `finals.csv`.

    Attributes:
        network: As in `Key`.
        weights: "
        bitwidths: One a layer, with spaces.
        data: In words.
        epochs: Of the final retraining.
        seeds: Of the retrainings, with spaces.
        accuracies: On test data, in [0, 1], one a seed, with spaces.
        control: Which full-precision networks the control is.
        control_accuracies: Of these, likewise.
        packed_bytes: Of the packed file.
        onnx_bytes: Of our ONNX file of the same network; 0 where it could not be written.
        full_precision_bytes: Of the network's numbers before.
        machine: It ran on.
    """

    network: str
    weights: str
    bitwidths: str
    data: str
    epochs: int
    seeds: str
    accuracies: str
    control: str
    control_accuracies: str
    packed_bytes: int
    onnx_bytes: int
    full_precision_bytes: int
    machine: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What defines it."""
        return self.network, self.weights, self.bitwidths


R = TypeVar("R", Chosen, Retrained)


class Rows(Generic[R]):
    """All rows of a file by their key; appending writes at once.

    Args:
        path: The file. What a killed process left of a line is measured again.
        kind: Of the rows.

    Raises:
        ReLeQError: If the file has other columns, or a value that does not fit.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        text = path.read_text() if path.exists() else ""
        self._whole = text.rpartition("\n")[0] + "\n" if "\n" in text else ",".join(kind._fields) + "\n"
        try:
            found = [_parsed(line, kind) for line in csv.DictReader(self._whole.splitlines())]
        except (KeyError, TypeError, ValueError) as error:
            raise ReLeQError(f"{path} is damaged ({type(error).__name__}: {error}); mend or delete it") from error
        self.rows: dict[object, R] = {row.key: row for row in found}

    def append(self, row: R) -> None:
        """Keep a row, on disk when this returns."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        self._whole += line.getvalue()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, self._whole)
        self.rows[row.key] = row


def _parsed(line: dict[str, str], kind: type[R]) -> R:
    return kind(**{name: kind.__annotations__[name](line[name]) for name in kind._fields})
