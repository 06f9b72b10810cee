"""The mean over the weights."""

from releq_env.layer_info import LayerInfo


def weighted_bits(layer: LayerInfo, bits: int) -> float:
    """Return the bits of all weights of the layer."""
    return float(layer.weights * bits)
