"""Where the time of a retraining goes.

    python -m benchmarks.hot_path

One thread retrains LeNet, SimpleNet and SVHN-8 on random images, the training steps under torch's profiler;
every operator's own time is counted to the part of a step it belongs to, and Python's between them to
"everything else". The profiler itself takes time, mostly that of short operators. The raw numbers go to a JSON
file.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import machine
from benchmarks.measuring import BATCH, NETWORKS
from benchmarks.stand_ins import random_task
from releq_env.evaluation import RetrainingEvaluator
from releq_env.evaluation.retraining import Data
from releq_env.files import replace_file

RESULTS = Path(__file__).parent / "results" / "hot_path.json"
_BITS = 4
_STEPS = {"lenet": 60, "simplenet": 80, "svhn8": 10}
_ALONE = {
    "aten::mkldnn_convolution": "convolution, forward",
    "aten::convolution_backward": "convolution, backward",
    "aten::addmm": "linear",
    "aten::mm": "linear",
    "aten::index": "picking the batch",
}
"""Operators whose own time counts."""
_WHOLE = {
    "_HalvingMaxPoolReLU": "pooling and ReLU",
    "_HalvingMaxPoolReLUBackward": "pooling and ReLU",
    "_LearnedStep": "quantizer",
    "_LearnedStepBackward": "quantizer",
    "Optimizer.step#Adam.step": "optimizer",
}
"""Operators that count with all they call, none of which is in `_ALONE`."""


def parts(network: str) -> dict[str, float]:
    """Return milliseconds a step by part of it, and `"everything"`."""
    images = _STEPS[network] * BATCH
    task, pretrained = random_task(network, training=images, validation=10)
    evaluator = _Profiled(task, pretrained, retrain_images=images)
    for _ in range(2):  # the second time counts
        evaluator.measure((_BITS,) * len(pretrained.layers))
    found = _sorted_by_part(evaluator.profiled.key_averages())
    return {part: time / 1000 / _STEPS[network] for part, time in found.items()}


class _Profiled(RetrainingEvaluator):
    """Profiles its training steps, and neither the calibration before them nor the validation after them."""

    profiled: profile

    def descend(
        self, parameters: Sequence[Tensor], loss: Callable[[Tensor, Tensor], Tensor], data: Data, retrain_seed: int
    ) -> None:
        with profile(activities=[ProfilerActivity.CPU]) as self.profiled, record_function("steps"):
            super().descend(parameters, loss, data, retrain_seed)


def _sorted_by_part(events: Sequence[torch.autograd.profiler_util.FunctionEventAvg]) -> dict[str, float]:
    everything = sum(event.self_cpu_time_total for event in events)
    found: dict[str, float] = {}
    for event in events:
        if event.key in _ALONE:
            part, time = _ALONE[event.key], event.self_cpu_time_total
        elif event.key in _WHOLE:
            part, time = _WHOLE[event.key], event.cpu_time_total
        else:
            continue
        found[part] = found.get(part, 0.0) + time
    found = dict(sorted(found.items(), key=lambda item: -item[1]))
    return found | {"everything else": everything - sum(found.values()), "everything": everything}


def markdown(profiles: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table, a line a part."""
    names = list(dict.fromkeys(part for found in profiles.values() for part in found if part != "everything"))
    lines = [f"| ms a step | {' | '.join(profiles)} |", "|---" * (len(profiles) + 1) + "|"]
    for part in [*names, "everything"]:
        cells = (
            f"{found[part]:.2f} ({found[part] / found['everything']:.0%})" if part in found else ""
            for found in profiles.values()
        )
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Profile, print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=main.__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="which (default: all)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    args = parser.parse_args(argv)
    profiles = {network: parts(network) for network in args.networks}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine.describe() | {"threads": 1},
        "bits": _BITS,
        "batch": BATCH,
        "milliseconds a step": profiles,
    }
    replace_file(args.output, json.dumps(content, indent=1) + "\n")
    print(markdown(profiles))


if __name__ == "__main__":
    main()
