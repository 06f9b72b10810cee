"""Bit operations of the multiply-accumulates."""

from releq_env.layer_info import LayerInfo


def bitops(layer: LayerInfo, bits: int) -> float:
    """Return multiply-accumulates times weight bits; activations keep one width everywhere, which cancels."""
    return float(layer.macs * bits)
