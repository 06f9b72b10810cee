"""Both ways to evaluate an assignment: the engine's, and a plain loop with the same batches."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from releq_env.quantization import quantize
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import get_task, load_pretrained

_INFERENCE_BATCH = 500
_STEP_RATE = 0.01


class Pair(NamedTuple):
    """The two accuracies of an assignment with a retraining seed."""

    task: str
    bitwidths: tuple[int, ...]
    seed: int
    fast: float
    plain: float


def measure(task: str, images: int, bitwidths: tuple[int, ...], seed: int) -> Pair:
    """Measure an assignment with a retraining seed both ways."""
    torch.set_num_threads(1)
    fast = engine(task, images)
    accuracy, _ = fast.measure(bitwidths, seed)
    return Pair(task, bitwidths, seed, accuracy, plain_accuracy(fast, bitwidths, seed))


def plain_accuracy(fast: ShortRetraining, bitwidths: Sequence[int], seed: int) -> float:
    """Return the accuracy that a plain loop measures: fp32, usual layout, torch's own layers and Adam.

    The batches, their order, the quantizer and the learning rates are the engine's.
    """
    inputs, targets, validation, validation_targets = _plain_data(fast)
    names = [layer.name for layer in fast.pretrained.layers]
    network = quantize(fast.pretrained.network, names, bitwidths, fast.quantizer)
    network.eval()  # no dropout; neither network has batch normalisation
    rates = dict.fromkeys(network.parameters(), fast.learning_rate)
    for name, bits in zip(names, bitwidths, strict=True):
        layer = network.get_submodule(name)
        rates |= dict.fromkeys(layer.parameters(), fast.learning_rate * min(1.0, 2.0 / bits))
        rates |= {step: _STEP_RATE for key, step in layer.named_parameters() if key.endswith("log_step")}
    optimizer = torch.optim.Adam([{"params": [parameter], "lr": rate} for parameter, rate in rates.items()])
    batches = fast.batches(len(targets), seed)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / len(batches))
    share = fast.task.retraining.distillation
    for batch in batches:
        with torch.no_grad():
            teacher = fast.pretrained.network(inputs[batch]).softmax(dim=1)
        optimizer.zero_grad()
        outputs = network(inputs[batch])
        hard, soft = F.cross_entropy(outputs, targets[batch]), F.cross_entropy(outputs, teacher)
        ((1.0 - share) * hard + share * soft).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = torch.cat([network(piece).argmax(dim=1) for piece in validation.split(_INFERENCE_BATCH)])
    return (predicted == validation_targets).float().mean(dtype=torch.float64).item()


@functools.cache
def engine(task: str, images: int) -> ShortRetraining:
    """Return the fast evaluation, the same in every call."""
    return ShortRetraining(get_task(task), load_pretrained(get_task(task)), retrain_images=images)


@functools.cache
def _plain_data(fast: ShortRetraining) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    training, validation = fast.task.dataset.load(fast.data_root)
    normalize = fast.task.dataset.normalize
    return normalize(training.inputs), training.targets, normalize(validation.inputs), validation.targets
