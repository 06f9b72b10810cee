"""Time every layer at every bitwidth in onnxruntime, and write a file for `cost="csv:PATH"`.

    python -m benchmarks.costs --task digits --out costs.csv

On this machine, one thread of the CPU, in microseconds for one forward pass. onnxruntime has integers of 2, 4 and
8 bits, so 1 bit takes what 2 take, 3 what 4, and 5 to 7 what 8. It dequantizes weights at every run
(`--once`: when the file is loaded), and computes in float32: few bits need not be faster.
"""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmarks.common import machine
from benchmarks.common.recording import positive
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.export.named import network_named
from releq_env.files import replace_file
from releq_env.quantization import quantizable_layers
from releq_env.tasks import get_task

BITS = range(1, 9)


def rows(measured: dict[str, dict[int, float]]) -> list[tuple[str, int, float]]:
    """Return layer, bitwidth and microseconds, from the seconds of every layer by the width of its integers."""
    return [
        (name, bits, round(1e6 * times[min(width for width in times if width >= bits)], 3))
        for name, times in measured.items()
        for bits in BITS
    ]


def write(path: Path, found: Sequence[tuple[str, int, float]], how: str) -> None:
    """Write a file of costs.

    Args:
        path: The file.
        found: Layer, bitwidth and cost.
        how: They were measured; one line, the same in every row.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "bits", "cost", "measured"])
    writer.writerows([*row, how] for row in found)
    replace_file(path, text.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=(__doc__ or "").split("\n")[0])
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--task", help="of which the network is timed, e.g. digits")
    network.add_argument("--model", help="module:function that returns a network of your own; with --input-shape")
    parser.add_argument("--input-shape", type=positive, nargs="+", help="of one input of your own network")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--batch", type=positive, default=1, help="inputs at once")
    parser.add_argument("--rounds", type=positive, default=30, help="turns of 5 ms each; the median run counts")
    parser.add_argument("--once", action="store_true", help="dequantize when the file is loaded, not at every run")
    options = parser.parse_args(arguments)
    with ends_in_one_line():
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    try:
        from benchmarks.costs.timing import measured
    except ModuleNotFoundError as error:
        raise ReLeQError(f"this needs {error.name}, which is not installed; pip install 'releq_env[export]'") from error
    torch.set_num_threads(1)
    if options.task is not None:
        task = get_task(options.task)
        network, shape, named = task.untrained(), task.dataset.input_shape, task.name
    else:
        network, shape, named = *_own(options.model, options.input_shape), options.model
    layers = [layer.name for layer in quantizable_layers(network, shape)]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(options.batch, *shape, generator=generator)
    found = measured(network, layers, inputs, options.rounds, options.once)
    import onnxruntime

    when = "dequantized once" if options.once else "dequantized at every run"
    how = (
        f"microseconds, batch {options.batch}, onnxruntime {onnxruntime.__version__}, 1 thread, {when}, "
        f"median, {machine.processor()}"
    )
    write(options.out, rows(found), how)
    print(f"{named}: {how}")
    for name, times in found.items():
        print(f"{name:20} " + "  ".join(f"{width} bits {1e6 * value:9.1f}" for width, value in times.items()))
    print(f"written: {options.out}; use it as cost=csv:{options.out}")


def _own(given: str, shape: Sequence[int] | None) -> tuple[nn.Module, tuple[int, ...]]:
    if not shape:
        raise ReLeQError("--model needs --input-shape, e.g. --input-shape 3 32 32")
    return network_named(given), tuple(shape)


if __name__ == "__main__":
    main()
