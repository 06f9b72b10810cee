"""What a layer costs at a bitwidth: one file a model, all of them in `COSTS`."""

from releq_env.cost.bitops import bitops
from releq_env.cost.energy import energy
from releq_env.cost.matrix import CostModel, cheapest_share, cost_matrix
from releq_env.cost.mean_bits import mean_bits
from releq_env.cost.size import size
from releq_env.cost.terms import CostTerms
from releq_env.cost.weighted_bits import weighted_bits

COSTS: dict[str, CostModel] = {
    "mean_bits": mean_bits,
    "weighted_bits": weighted_bits,
    "energy": energy,
    "bitops": bitops,
    "size": size,
}
"""By name: `(layer, bits) -> cost`. Add one of your own and its name is accepted as `cost=`."""

__all__ = ["COSTS", "CostModel", "CostTerms", "cheapest_share", "cost_matrix"]
