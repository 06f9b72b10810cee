"""Every cost of the shipped tasks' networks at few bits, beside int8 and fp32.

    python -m benchmarks.costs.table

The last column is what was chosen with `lsq` in `benchmarks/results/reproduction`, else the optimum of the task's
table.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.recording import RESULTS
from releq_env.cost import COSTS, CostModel
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.quantization import quantizable_layers, with_scales
from releq_env.report.markdown import table
from releq_env.tables import AccuracyTable
from releq_env.tasks import TASKS, get_task

UNIFORM = (32, 8, 4, 2)
UNITS = {
    "mean_bits": "bits a layer",
    "weighted_bits": "bits a weight",
    "energy": "a multiply-accumulate of one bit",
    "bitops": "bit operations",
    "bit_serial": "cycles",
    "size": "bytes",
}


def cost(name: str, model: CostModel, layers: Sequence[LayerInfo], bitwidths: Sequence[int]) -> float:
    """Return what an assignment costs; a mean where the unit is one. 32 bits are float32, without a scale."""
    plain = [dataclasses.replace(layer, scales=0) for layer in layers]
    total = sum(
        model(whole if bits == 32 else layer, bits) for layer, whole, bits in zip(layers, plain, bitwidths, strict=True)
    )
    divisor = {"mean_bits": len(layers), "weighted_bits": sum(layer.weights for layer in layers)}
    return total / divisor.get(name, 1)


def found(task: str, folder: Path = RESULTS / "reproduction") -> list[int] | None:
    """Return what was chosen for a task, else the optimum of its table; `None` where there is neither."""
    chosen = folder / f"{task}-lsq" / "chosen.json"
    if chosen.exists():
        bitwidths: list[int] = json.loads(chosen.read_text())["bitwidths"]
        return bitwidths
    try:
        return list(AccuracyTable.load(task).optimum().bitwidths)
    except ReLeQError:  # none comes with the package
        return None


def rows(task: str) -> list[list[str]]:
    """Return a row a cost of a task: float32, then fewer bits with how many times cheaper they are."""
    given = get_task(task)
    layers = with_scales(quantizable_layers(given.untrained(), given.dataset.input_shape), "lsq")
    best = found(task)
    made = []
    for name, model in COSTS.items():
        full, *others = (cost(name, model, layers, [bits] * len(layers)) for bits in UNIFORM)
        others += [cost(name, model, layers, best)] if best else []
        cells = [f"{_short(each)} ({full / each:.1f})" for each in others]
        made.append([task, f"`{name}`", UNITS.get(name, ""), _short(full), *cells, *([] if best else ["-"])])
    return made


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Print the table."""
    header = ["task", "cost", "unit", "fp32", *(f"{bits} bits" for bits in UNIFORM[1:]), "found"]
    print(table(header, [row for task in TASKS for row in rows(task)], aligned=False))
    for task in TASKS:
        if best := found(task):
            print(f"{task}: {' '.join(map(str, best))}")


if __name__ == "__main__":
    main()
