"""Weight quantization in plain torch. Knows nothing of environments or agents."""

from releq_env.quantization.apply import quantize
from releq_env.quantization.layers import quantizable_layers
from releq_env.quantization.quantizers import QUANTIZERS, Codes, WeightQuantizer, check_bitwidths

__all__ = ["QUANTIZERS", "Codes", "WeightQuantizer", "check_bitwidths", "quantizable_layers", "quantize"]
