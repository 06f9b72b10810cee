"""NVIDIA ModelOpt's `auto_quantize`: a gradient-based score a layer and format, summed, and a linear program.

Its presets for weights alone have 4 and 8 bits. It takes formats of one's own, too ("experimental", its documentation
says): here every whole bitwidth that it can compute, which leaves it more choice than its presets.
"""

import time
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from benchmarks.vendors.vendor import Choice, Given

_BITS = range(2, 9)  # with one, its weights are not numbers
_SCORED = 32  # batches
_COMPRESSED = 8  # bits; it compresses no other format of a convolution


def choose(given: Given, weighted_bits: float, folder: Path) -> Choice:
    """Let it choose among all bitwidths for every layer; see `Choose`."""
    import modelopt.torch.opt as mto
    import modelopt.torch.quantization as mtq

    formats = [_weights_alone(bits) for bits in _BITS]
    everywhere = {"module_name_patterns": ["*"], "quantization_formats": formats, "allow_no_quant": False}
    begun = time.perf_counter()
    network, _ = mtq.auto_quantize(
        given.network,
        constraints={"effective_bits": float(weighted_bits)},
        quantization_formats=formats,
        module_search_spaces=[everywhere],
        data_loader=given.batches(_SCORED),
        forward_step=lambda network, batch: network(batch[0]),
        # The mean over a batch makes scores so small that the solver takes them for nothing, and spends no budget.
        loss_func=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="sum"),
        num_calib_steps=1,  # weights are calibrated without data
        num_score_steps=_SCORED,
    )
    seconds = time.perf_counter() - begun
    bitwidths = {
        layer.name: int(network.get_submodule(layer.name).weight_quantizer.num_bits) for layer in given.problem.layers
    }
    small = {f"{name}.weight_quantizer": True for name, bits in bitwidths.items() if bits == _COMPRESSED}
    if small:
        mtq.compress(network, {"compress": {"default": False, **small}})
    file = folder / "network.pth"
    mto.save(network, file)
    return Choice(bitwidths, seconds, file)


def _weights_alone(bits: int) -> dict[str, Any]:
    """Return the format of integer weights, one scale an output channel, that fits them best in the mean square."""
    weights = {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": bits, "axis": 0}, "enable": True}
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False}, weights], "algorithm": "mse"}
