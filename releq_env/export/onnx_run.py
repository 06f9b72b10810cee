"""Running an ONNX file in onnxruntime as it is meant: float32, on one thread of the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.export.agreement import Runner
from releq_env.export.model import Model


def session(path: Path, once: bool = False) -> onnxruntime.InferenceSession:
    """Return a session.

    Args:
        path: Of the file. It is handed over as bytes: other files that it names are not read.
        once: Whether weights are dequantized when the file is loaded, and not at every run.

    Raises:
        ReLeQError: If onnxruntime does not take it.
    """
    options = onnxruntime.SessionOptions()
    # Without it a DequantizeLinear before a MatMul may become a kernel that rounds the activations to int8.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if once:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own are of no public class
        raise ReLeQError(f"{path} is nothing that onnxruntime runs ({str(error)[:200]}); export it again") from error


def run(model: Model, path: Path) -> Runner:
    """Return what computes with an ONNX file of one input."""
    runtime = session(path)
    (given,) = runtime.get_inputs()
    fixed = isinstance(given.shape[0], int)

    def compute(batch: Tensor) -> list[NDArray[Any]]:
        batches = batch.split(1) if fixed else [batch]
        parts = [runtime.run(None, {given.name: each.numpy()}) for each in batches]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    return compute
