"""Cycles of a processor whose multipliers take 8 bits, or twice 4, or four times 2."""

from releq_env.cost import COSTS
from releq_env.layer_info import LayerInfo


def cycles(layer: LayerInfo, bits: int) -> float:
    at_once = 4 if bits <= 2 else 2 if bits <= 4 else 1
    return layer.macs / at_once


COSTS["cycles"] = cycles
