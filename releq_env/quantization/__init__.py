"""Weight quantization in plain torch. Knows nothing of environments or agents.

What needs torch is imported on first use: the table of quantizers is read without it.
"""

from typing import TYPE_CHECKING

from releq_env.lazy import on_first_use
from releq_env.quantization.registry import QUANTIZERS, Quantizer

if TYPE_CHECKING:
    from releq_env.quantization.apply import quantize
    from releq_env.quantization.base import Codes, WeightQuantizer
    from releq_env.quantization.layers import quantizable_layers, with_scales

__all__ = ["QUANTIZERS", "Codes", "Quantizer", "WeightQuantizer", "quantizable_layers", "quantize", "with_scales"]

_LAZY = {
    "Codes": "releq_env.quantization.base",
    "WeightQuantizer": "releq_env.quantization.base",
    "quantizable_layers": "releq_env.quantization.layers",
    "quantize": "releq_env.quantization.apply",
    "with_scales": "releq_env.quantization.layers",
}


__getattr__ = on_first_use(__name__, _LAZY)
