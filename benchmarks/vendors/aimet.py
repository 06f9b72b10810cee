"""Qualcomm AIMET's automatic mixed precision: the accuracy with each layer alone at each bitwidth, then greedily.

It has no budget of bits: it goes from the most to the fewest, the least sensitive step first, and says the accuracy
after each. Taken is the first step that keeps the budget. Activations have 16 bits, which change next to nothing.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.vendors.vendor import Choice, Given
from releq_env.errors import ReLeQError

_BITS = range(8, 1, -1)
_ACTIVATIONS = 16  # bits
_MEASURED_ON = 1000  # validation examples
_WIDTHS = (4, 8)  # bits; what it writes of 2 its own check of the file refuses
_OPSET = 21  # the first with integers of 4 bits


def choose(given: Given, weighted_bits: float, folder: Path) -> Choice:
    """Let it order all steps, and take as many as the budget asks for; see `Choose`."""
    from aimet_torch import QuantizationSimModel
    from aimet_torch.common.amp.utils import AMPSearchAlgo
    from aimet_torch.common.defs import CallbackFunc, QuantizationDataType
    from aimet_torch.mixed_precision import choose_mixed_precision

    (example, _), *_ = given.batches(1)
    integer = QuantizationDataType.int

    def pass_on(network: nn.Module, _: Any = None) -> None:
        with torch.no_grad():
            network(example)

    def accuracy(network: nn.Module, _: Any = None) -> float:
        return given.accuracy(network, _MEASURED_ON)

    begun = time.perf_counter()
    sim = QuantizationSimModel(
        given.network, example, default_output_bw=_ACTIVATIONS, default_param_bw=max(_BITS), in_place=True
    )
    sim.compute_encodings(pass_on)
    steps = choose_mixed_precision(
        sim,
        example,
        [((_ACTIVATIONS, integer), (bits, integer)) for bits in _BITS],
        CallbackFunc(accuracy),
        CallbackFunc(accuracy),
        None,
        str(folder / "amp"),
        True,
        CallbackFunc(pass_on),
        use_all_amp_candidates=True,
        amp_search_algo=AMPSearchAlgo.BruteForce,
    )
    weights = {layer.name: layer.weights for layer in given.problem.layers}
    bitwidths = dict.fromkeys(weights, max(_BITS))
    taken = iter(steps or ())
    while sum(weights[name] * bits for name, bits in bitwidths.items()) > weighted_bits * sum(weights.values()):
        step = next(taken, None)
        if step is None:
            raise ReLeQError(f"AIMET takes no step that leads to {weighted_bits:g} bits a weight")
        _, _, group, (_, (bits, _)) = step
        # Where accuracies are noisy a layer's steps come in another order: none is taken back.
        bitwidths |= {name: min(int(bits), bitwidths[name]) for name in group.parameter_quantizers if name in weights}
    seconds = time.perf_counter() - begun
    return Choice(bitwidths, seconds, _written(sim, bitwidths, example, folder / "network.onnx"))


def _written(sim: Any, bitwidths: dict[str, int], example: torch.Tensor, file: Path) -> Path:
    """Write its ONNX, each layer in the smallest integers that hold its bits and that it can write."""
    import aimet_torch.onnx

    for name, bits in bitwidths.items():
        width = next(width for width in _WIDTHS if width >= bits)
        sim.model.get_submodule(name).param_quantizers["weight"].bitwidth = width
    sim.compute_encodings(lambda network: network(example))
    aimet_torch.onnx.export(sim, (example,), str(file), prequantize_constants=True, opset_version=_OPSET, dynamo=False)
    return file
