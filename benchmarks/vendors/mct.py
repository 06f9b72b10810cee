"""Sony's Model Compression Toolkit: how far a network's activations move a layer and bitwidth, and a linear program.

Its default platform has 8, 4 and 2 bits. A platform of one's own may have others: here all whole bitwidths. Activations
stay float.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.vendors.vendor import Choice, Given
from releq_env.errors import ReLeQError

_BITS = range(8, 0, -1)  # it wants the largest first
_CALIBRATION = 4  # batches


def choose(given: Given, weighted_bits: float, folder: Path) -> Choice:
    """Let it choose among all bitwidths for every layer; see `Choose`."""
    import model_compression_toolkit as mct
    from mct_quantizers import PytorchQuantizationWrapper

    def representative() -> Iterator[list[Any]]:
        for inputs, _ in given.batches(_CALIBRATION):
            yield [inputs.numpy()]

    weights = sum(layer.weights for layer in given.problem.layers)
    begun = time.perf_counter()
    network, _ = mct.ptq.pytorch_post_training_quantization(
        given.network,
        representative,
        target_resource_utilization=mct.core.ResourceUtilization(weights_memory=weights * weighted_bits / 8),
        core_config=mct.core.CoreConfig(mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig()),
        target_platform_capabilities=_platform(),
    )
    seconds = time.perf_counter() - begun
    found = {
        _plain(name): module.weights_quantizers["weight"].num_bits
        for name, module in network.named_modules()
        if isinstance(module, PytorchQuantizationWrapper)
    }
    names = {layer.name: _plain(layer.name.replace(".", "_")) for layer in given.problem.layers}
    if set(names.values()) != set(found) or len(set(names.values())) != len(names):
        raise ReLeQError(f"MCT has quantized {sorted(found)}, which are not the layers {list(names)}")
    file = folder / "network.pt"
    mct.exporter.pytorch_export_model(
        network,
        str(file),
        representative,
        serialization_format=mct.exporter.PytorchExportSerializationFormat.TORCHSCRIPT,
        quantization_format=mct.exporter.QuantizationFormat.FAKELY_QUANT,
    )
    return Choice({name: int(found[theirs]) for name, theirs in names.items()}, seconds, file)


def _plain(name: str) -> str:
    """Return the name of a layer without what its graph adds: an underscore before digits, what is folded in."""
    return name.strip("_").removesuffix("_bn")


def _platform() -> Any:
    """Return its default platform with all bitwidths, and activations left alone."""
    from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
    from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc

    layer, _, others = tpc.get_op_quantization_configs()
    layer, others = (each.clone_and_edit(enable_activation_quantization=False) for each in (layer, others))
    candidates = [layer.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: bits}}) for bits in _BITS]
    return tpc.generate_tpc(others, layer, candidates, "weights")
