"""Energy of memory accesses and arithmetic, the paper's State of Quantization."""

from releq_env.layer_info import LayerInfo

MEMORY_TO_MAC_ENERGY = 120.0
"""Energy of one memory access over the energy of one multiply-accumulate (R, as we read the paper)."""


def energy(layer: LayerInfo, bits: int) -> float:
    """Return `(weights * R + macs) * bits`, in energies of one multiply-accumulate a bit."""
    return (layer.weights * MEMORY_TO_MAC_ENERGY + layer.macs) * bits
