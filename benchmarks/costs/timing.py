"""How long onnxruntime takes for one layer with integer weights."""

import copy
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from releq_env.errors import ReLeQError
from releq_env.export import About, save_packed
from releq_env.export.formats import FORMATS
from releq_env.export.integers import WIDTHS
from releq_env.export.model import Model
from releq_env.export.onnx_run import session
from releq_env.export.packed import read_packed
from releq_env.quantization import quantize

Run = Callable[[], object]

_TURN = 0.005  # seconds
_WARM = 3


def inputs_of(network: nn.Module, names: Sequence[str], inputs: Tensor) -> dict[str, list[Tensor]]:
    """Return what every layer is given in a forward pass, once for each call of it.

    Args:
        network: Runs in evaluation mode; left as it was, but for that.
        names: Of the layers.
        inputs: Of the network.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    hooks = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda module, arguments, name=name: found[name].append(arguments[0].detach().clone())
        )
        for name in names
    ]
    with torch.no_grad():
        network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    return found


def runs_of(layer: nn.Module, given: Tensor, folder: Path, once: bool) -> dict[int, Run]:
    """Return, by the width of its integers, what runs a layer in onnxruntime.

    Args:
        layer: In full precision.
        given: Its inputs.
        folder: For files.
        once: Whether weights are dequantized when a file is loaded.
    """
    network = nn.Sequential(copy.deepcopy(layer)).eval()
    about = About(input_shape=tuple(given.shape[1:]), input_dtype=str(given.dtype).removeprefix("torch."))
    feed = {"input": given.numpy()}
    runs: dict[int, Run] = {}
    for width in WIDTHS:
        packed, path = folder / "packed", folder / f"{width}.onnx"
        save_packed(quantize(network, ["0"], [width], "lsq"), packed, about)
        plain, content = read_packed(packed, network)
        FORMATS["onnx"].writer()(Model(plain, content, about, packed), path)
        runtime = session(path, once)
        runs[width] = functools.partial(runtime.run, None, feed)
    return runs


def seconds(runs: dict[int, Run], rounds: int) -> dict[int, float]:
    """Return the median time of one run each, in seconds.

    They take turns, a few milliseconds each, so that whatever else the machine does meets all of them.
    """
    readings: dict[int, list[float]] = {width: [] for width in runs}
    for run in runs.values():
        for _ in range(_WARM):
            run()
    for _ in range(rounds):
        for width, run in runs.items():
            until = time.perf_counter() + _TURN
            start = 0.0
            while start < until:
                start = time.perf_counter()
                run()
                readings[width].append(time.perf_counter() - start)
    return {width: statistics.median(times) for width, times in readings.items()}


def measured(
    network: nn.Module, names: Sequence[str], inputs: Tensor, rounds: int, once: bool = False
) -> dict[str, dict[int, float]]:
    """Return the seconds of every layer by the width of its integers.

    Args:
        network: In full precision.
        names: Of its layers.
        inputs: Of the network, shape `(batch, ...)`.
        rounds: Turns of each.
        once: See `runs_of`.

    Raises:
        ReLeQError: If a layer is not called by itself.
    """
    results = {}
    for name, given in inputs_of(network, names, inputs).items():
        if not given:
            raise ReLeQError(f"layer {name!r} is not called by itself, and cannot be timed; leave it out")
        with tempfile.TemporaryDirectory() as folder:
            runs = runs_of(network.get_submodule(name), given[0], Path(folder), once)
            times = seconds(runs, rounds)
        results[name] = {width: value * len(given) for width, value in times.items()}
    return results
