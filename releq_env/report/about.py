"""What a run writes down of its problem for the report, beside what a resumed run is checked against."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from releq_env.problem import Problem


def about(problem: "Problem") -> dict[str, Any]:
    """Return a problem's name, quantizer, cost and layers, JSON-able; `about` in `config.json`."""
    return {
        "name": problem.name,
        "quantizer": problem.quantizer,
        "cost": problem.cost,
        "layers": [asdict(layer) for layer in problem.layers],
    }
