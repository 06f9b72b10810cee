"""Where the time of a retraining goes.

    python -m benchmarks.hot_path

One thread retrains LeNet, SimpleNet and SVHN-8 on random images, the training steps under torch's profiler;
every operator's own time is counted to the part of a step it belongs to, and Python's between them to
"everything else". The profiler itself takes time, mostly that of short operators. The raw numbers go to a JSON
file.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.common import machine
from benchmarks.common.recording import RESULTS, positive, write
from benchmarks.common.stand_ins import BATCH, BITS, NETWORKS, STEPS, random_task
from releq_env.quantization import QUANTIZERS
from releq_env.report.markdown import table
from releq_env.retraining.data import Data
from releq_env.retraining.distillation import Loss
from releq_env.retraining.fused import HalvingMaxPoolReLU
from releq_env.retraining.short import ShortRetraining

_ALONE = {
    "aten::mkldnn_convolution": "convolution, forward",
    "aten::convolution_backward": "convolution, backward",
    "aten::addmm": "linear",
    "aten::mm": "linear",
    "aten::index": "picking the batch",
}
"""Operators whose own time counts."""


@functools.cache
def whole() -> dict[str, str]:
    """Return the operators that count with all they call, none of which is in `_ALONE`."""
    weight, images = torch.randn(2, 3, requires_grad=True), torch.randn(1, 2, 4, 4, requires_grad=True)
    outputs = {
        "quantizer": QUANTIZERS["lsq"].make(weight, BITS)(weight),
        "pooling and ReLU": HalvingMaxPoolReLU()(images),
    }
    names = {name: part for part, output in outputs.items() for name in own_functions(output)}
    return names | {"aten::_fused_adam_": "optimizer"}


def own_functions(output: Tensor) -> list[str]:
    """Return what the profiler calls the functions with gradients of their own that made a tensor, both ways."""
    found = []
    nodes: list[Any] = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if isinstance(node, BackwardCFunction):
            name = type(node).__name__
            found += [name, name.removesuffix("Backward")]
        nodes += [after for after, _ in node.next_functions if after is not None]
    return found


def parts(network: str, steps: int) -> dict[str, float]:
    """Return milliseconds a step by part of it, and `"everything"`."""
    images = steps * BATCH
    task, pretrained = random_task(network, training=images, validation=10)
    retraining = Profiled(task, pretrained, retrain_images=images)
    for _ in range(2):  # the second time counts
        retraining.measure((BITS,) * len(pretrained.layers))
    found = by_part(retraining.profiled.key_averages())
    return {part: time / 1000 / steps for part, time in found.items()}


class Profiled(ShortRetraining):
    """Profiles its training steps, and neither the calibration before them nor the validation after them."""

    profiled: profile

    def descend(
        self,
        groups: Sequence[dict[str, Any]],
        loss: Loss,
        data: Data,
        retrain_seed: int,
        slowed: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        self.taught(data, self.batches(len(data.targets), retrain_seed), retrain_seed)  # kept for what follows
        with profile(activities=[ProfilerActivity.CPU]) as self.profiled, record_function("steps"):
            super().descend(groups, loss, data, retrain_seed, slowed)


def by_part(events: Sequence[torch.autograd.profiler_util.FunctionEventAvg]) -> dict[str, float]:
    """Return microseconds by part of a step, the longest first, what is left over, and `"everything"`."""
    everything = sum(event.self_cpu_time_total for event in events)
    found: dict[str, float] = {}
    for event in events:
        if event.key in _ALONE:
            part, time = _ALONE[event.key], event.self_cpu_time_total
        elif event.key in whole():
            part, time = whole()[event.key], event.cpu_time_total
        else:
            continue
        found[part] = found.get(part, 0.0) + time
    found = dict(sorted(found.items(), key=lambda item: -item[1]))
    return found | {"everything else": everything - sum(found.values()), "everything": everything}


def markdown(profiles: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table, a line a part."""
    names = list(dict.fromkeys(part for found in profiles.values() for part in found if part != "everything"))
    rows = [
        (
            part,
            *(
                f"{found[part]:.2f} ({found[part] / found['everything']:.0%})" if part in found else ""
                for found in profiles.values()
            ),
        )
        for part in [*names, "everything"]
    ]
    return table(("ms a step", *profiles), rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Profile, print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=main.__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="which (default: all)")
    parser.add_argument("--steps", type=positive, help="of each (default: as many as take a second or two)")
    parser.add_argument("--output", type=Path, default=RESULTS / "hot_path.json", help="the JSON file")
    args = parser.parse_args(argv)
    profiles = {network: parts(network, args.steps or STEPS[network]) for network in args.networks}
    about = machine.describe() | {"threads": 1}
    write(args.output, {"machine": about, "bits": BITS, "batch": BATCH, "milliseconds a step": profiles})
    print(markdown(profiles))


if __name__ == "__main__":
    main()
