"""Costs that somebody has measured: `cost="csv:PATH"`."""

import csv
import math
from dataclasses import dataclass

from releq_env.errors import ReLeQError, short
from releq_env.layer_info import LayerInfo
from releq_env.paths import expanded

PREFIX = "csv:"
COLUMNS = ("layer", "bits", "cost")
_LARGEST = 2**26  # bytes
_MOST_BITS = 32


@dataclass(frozen=True)
class CsvCost:
    """The cost model of a file.

    Attributes:
        path: Of the file, for messages.
        costs: By layer name and bitwidth.
    """

    path: str
    costs: dict[tuple[str, int], float]

    @classmethod
    def read(cls, path: str) -> "CsvCost":
        """Return the model of a file with the columns `layer`, `bits` and `cost`, and any others.

        Raises:
            ReLeQError: If it cannot be read, a column is missing, or a row is not a layer's name, a bitwidth and a
                number from 0 of its own.
        """
        try:
            with expanded(path).open(encoding="utf-8-sig", newline="") as file:
                text = file.read(_LARGEST + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ReLeQError(
                f"cost='csv:{path}' cannot be read ({reason}); give csv: and the path of a file"
            ) from error
        if len(text) > _LARGEST:
            raise ReLeQError(f"{path} has more than {_LARGEST} characters; give a file of {', '.join(COLUMNS)}")
        costs: dict[tuple[str, int], float] = {}
        try:
            rows = csv.DictReader(text.splitlines(), strict=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise ReLeQError(
                    f"{path} has no column {missing[0]!r}; its first line has to name {', '.join(COLUMNS)}"
                )
            for row in rows:
                key, cost = _row(path, rows.line_num, row)
                if key in costs:
                    raise ReLeQError(
                        f"{path}, line {rows.line_num}: {key[0]} at {key[1]} bits is there a second time; "
                        "keep one of the two"
                    )
                costs[key] = cost
        except csv.Error as error:
            raise ReLeQError(f"{path} is no CSV file ({error}); give one with {', '.join(COLUMNS)}") from error
        if not costs:
            raise ReLeQError(f"{path} has no rows; give one for every layer and bitwidth")
        return cls(path, costs)

    def __call__(self, layer: LayerInfo, bits: int) -> float:
        """Return the cost of a layer at a bitwidth.

        Raises:
            ReLeQError: If the file has none.
        """
        if (layer.name, bits) in self.costs:
            return self.costs[layer.name, bits]
        there = sorted(found for name, found in self.costs if name == layer.name)
        if there:
            raise ReLeQError(
                f"{self.path} has no cost of {layer.name} at {bits} bits, only at {', '.join(map(str, there))}; add "
                "it, or leave the bitwidth out by bitwidths="
            )
        names = list(dict.fromkeys(name for name, _ in self.costs))
        raise ReLeQError(
            f"{self.path} has no cost of the layer {layer.name!r}, only of {short(names)}; name layers as the problem "
            "does"
        )


def _row(path: str, line: int, row: dict[str | None, str | None]) -> tuple[tuple[str, int], float]:
    layer, bits, cost = ((row[name] or "").strip() for name in COLUMNS)
    where = f"{path}, line {line}"
    if not layer:
        raise ReLeQError(f"{where} names no layer; give {', '.join(COLUMNS)} in every row")
    if not (bits.isascii() and bits.isdigit() and 1 <= len(bits) <= 2 and 1 <= int(bits) <= _MOST_BITS):
        raise ReLeQError(f"{where}: bits={short(bits)} is no bitwidth; give a whole number from 1 to {_MOST_BITS}")
    try:
        value = float(cost)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise ReLeQError(f"{where}: cost={short(cost)} is not accepted; give a number from 0")
    return (layer, int(bits)), value
