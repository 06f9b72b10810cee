"""What a layer costs at a bitwidth: one file a model, all of them in `COSTS`, and files of measurements."""

from releq_env.cost.bit_serial import bit_serial
from releq_env.cost.bitops import bitops
from releq_env.cost.csv_file import PREFIX, CsvCost
from releq_env.cost.energy import energy
from releq_env.cost.matrix import CostModel, cheapest_share, check_positive, cost_matrix
from releq_env.cost.mean_bits import mean_bits
from releq_env.cost.size import size
from releq_env.cost.terms import CostTerms
from releq_env.cost.weighted_bits import weighted_bits
from releq_env.errors import check_choice

COSTS: dict[str, CostModel] = {
    "mean_bits": mean_bits,
    "weighted_bits": weighted_bits,
    "energy": energy,
    "bitops": bitops,
    "bit_serial": bit_serial,
    "size": size,
}
"""By name: `(layer, bits) -> cost`. Add one of your own and its name is accepted as `cost=`."""


def cost_model(cost: str) -> CostModel:
    """Return the model that `cost=` names: one of `COSTS`, or `csv:PATH`, see `releq_env.cost.csv_file`.

    Raises:
        ReLeQError: If there is none of that name, or the file is not accepted.
    """
    if isinstance(cost, str) and cost.startswith(PREFIX):
        return CsvCost.read(cost.removeprefix(PREFIX))
    check_choice("cost", cost, (*COSTS, f"{PREFIX}PATH"))
    return COSTS[cost]


__all__ = ["COSTS", "CostModel", "CostTerms", "cheapest_share", "check_positive", "cost_matrix", "cost_model"]
