"""Whether the fast evaluation measures what a plain one measures.

    python -m benchmarks.fidelity

Random assignments are evaluated by the engine (`precision="auto"`) and by a plain fp32 loop with the same
batches, with several retraining seeds each. Single accuracies differ, because retraining is chaotic; on
average and in rank they must not, nor more than two retraining seeds differ. MNIST and CIFAR-10 are looked
for as by the environment (`RELEQ_DATA`). A run that was interrupted goes on.
"""

import argparse
import functools
import json
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks import machine
from benchmarks.fidelity_table import markdown, statistics_of
from releq_env.evaluation import RetrainingEvaluator
from releq_env.files import replace_file
from releq_env.quantization import quantize
from releq_env.tasks import get_task, load_pretrained

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
TASKS = ("mnist", "cifar10")
_WORKERS = 2
_LARGEST = 8
_INFERENCE_BATCH = 500


def assignments(layers: int, count: int) -> list[tuple[int, ...]]:
    """Return the first distinct assignments of a seeded stream, 1 to 8 bits a layer."""
    generator = random.Random(0)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < min(count, _LARGEST**layers):
        found[tuple(generator.randint(1, _LARGEST) for _ in range(layers))] = None
    return list(found)


def measure(task: str, images: int, bitwidths: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Return both accuracies of an assignment with a retraining seed."""
    torch.set_num_threads(1)
    fast = engine(task, images)
    return {
        "task": task,
        "bitwidths": list(bitwidths),
        "seed": seed,
        "fast": fast.measure(bitwidths, seed)[0],
        "plain": plain_accuracy(fast, bitwidths, seed),
    }


def plain_accuracy(fast: RetrainingEvaluator, bitwidths: Sequence[int], seed: int) -> float:
    """Return the accuracy that a plain loop measures: fp32, usual layout, torch's own layers and Adam.

    The batches, their order, the quantizer and the learning rates are the engine's.
    """
    images, labels, validation, validation_labels = _plain_data(fast)
    network = quantize(fast.pretrained.network, [layer.name for layer in fast.pretrained.layers], bitwidths)
    network.eval()  # no dropout; neither network has batch normalisation
    rate = fast.task.retraining.learning_rates[fast.quantizer]
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    batches = fast._batches(len(labels), seed)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate * (1.0 - step / len(batches))
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        predicted = torch.cat([network(piece).argmax(dim=1) for piece in validation.split(_INFERENCE_BATCH)])
    return (predicted == validation_labels).float().mean(dtype=torch.float64).item()


@functools.cache
def engine(task: str, images: int) -> RetrainingEvaluator:
    """Return the fast evaluator, the same in every call."""
    return RetrainingEvaluator(get_task(task), load_pretrained(get_task(task)), retrain_images=images)


@functools.cache
def _plain_data(fast: RetrainingEvaluator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    training, validation = fast.task.dataset.load(fast.data_root)
    normalize = fast.task.dataset.normalize
    return normalize(training.images), training.labels, normalize(validation.images), validation.labels


def run(output: Path, tasks: Sequence[str], count: int, seeds: int, images: int) -> list[dict[str, Any]]:
    """Measure what is missing in the file, writing every row when it is there; return the wanted rows."""
    known = json.loads(output.read_text()) if output.exists() else {"settings": {}, "rows": []}
    settings = known["settings"]
    wanted = []
    for task in tasks:
        fast = engine(task, images)
        if settings.setdefault(task, fast.fingerprint) != fast.fingerprint:
            raise SystemExit(f"{output} was made with other settings for {task}; delete it or give another --output")
        drawn = assignments(len(fast.pretrained.layers), count)
        wanted += [(task, bits, seed) for seed in range(seeds) for bits in drawn]
    rows = {(row["task"], tuple(row["bitwidths"]), row["seed"]): row for row in known["rows"]}
    missing = [key for key in wanted if key not in rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    about = machine.describe() | {"workers": _WORKERS, "threads": 1}
    with ProcessPoolExecutor(_WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures = {
            executor.submit(measure, task, images, bits, seed): (task, bits, seed) for task, bits, seed in missing
        }
        try:
            for future in tqdm(as_completed(futures), total=len(missing), unit="pair"):
                rows[futures[future]] = future.result()
                content = {"machine": about, "settings": settings, "rows": list(rows.values())}
                replace_file(output, json.dumps(content, indent=1) + "\n")
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return [rows[key] for key in wanted]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=main.__doc__)
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS, "digits"], default=TASKS, help="which tasks")
    parser.add_argument("--assignments", type=int, default=48, help="of each task (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=4, help="retraining seeds, from 0 (default: %(default)s)")
    parser.add_argument("--retrain-images", type=int, default=10_000, help="budget (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    args = parser.parse_args(argv)
    if args.assignments < 3 or args.seeds < 2:
        parser.error("the statistics take at least three assignments and two seeds")
    rows = run(args.output, args.tasks, args.assignments, args.seeds, args.retrain_images)
    print(markdown({task: statistics_of([row for row in rows if row["task"] == task]) for task in args.tasks}))


if __name__ == "__main__":
    main()
