"""Bytes of the quantized weights."""

from releq_env.layer_info import LayerInfo

SCALE_BYTES = 4
"""Of a float32."""


def size(layer: LayerInfo, bits: int) -> float:
    """Return the bytes of the packed codes, and of the scale factors that the quantizer stores."""
    return float(-(-layer.weights * bits // 8) + SCALE_BYTES * layer.scales)
