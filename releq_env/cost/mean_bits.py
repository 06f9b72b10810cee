"""The plain mean over the layers, as in the authors' released code and the paper's headline."""

from releq_env.layer_info import LayerInfo


def mean_bits(layer: LayerInfo, bits: int) -> float:
    """Return the bitwidth: every layer counts the same, those that share a bitwidth too."""
    return float(bits * len(layer.modules))
