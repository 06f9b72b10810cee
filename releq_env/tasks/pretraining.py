"""Train a task's full-precision network on the training part of its data.

With one thread: a kind of processor then gives the same bytes every time.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.tasks.augmentation import Augmentation
from releq_env.tasks.datasets import Examples
from releq_env.tasks.layouts import with_channels_last
from releq_env.tasks.task import PretrainingRecipe, Task

_MEASURING_BATCH = 1000


def pretrain(
    task: Task, data_root: str | os.PathLike[str] | None = None, checkpoint: Path | None = None, with_test: bool = False
) -> tuple[nn.Module, dict[str, float]]:
    """Train from scratch, in float32, and measure.

    Args:
        task: Network, data and recipe.
        data_root: See `releq_env.paths.data_folder`.
        checkpoint: File that the state is kept in after every epoch, and taken up from if it is
            there; removed at the end.
        with_test: Whether to read the test data, once, after training.

    Returns:
        The network in evaluation mode, and `validation_accuracy` (and `test_accuracy`) in [0, 1].
    """
    training, validation = task.dataset.load(data_root)
    with pinned_arithmetic(), seeded(task.pretraining.seed):
        network = task.new_network()
        with_channels_last(network)
        _train(task, network, training, checkpoint)
        accuracies = {"validation_accuracy": score(network, validation, task)}
        if with_test:
            accuracies["test_accuracy"] = score(network, task.dataset.load_test(data_root), task)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return network.to(memory_format=torch.contiguous_format), accuracies


def _train(task: Task, network: nn.Module, training: Examples, checkpoint: Path | None) -> None:
    recipe = task.pretraining
    inputs = _channels_last(task.dataset.normalize(training.inputs))
    augmentation = Augmentation(recipe.flip, recipe.shift)
    generator = torch.Generator().manual_seed(recipe.seed)
    size = min(recipe.batch_size, len(inputs))
    steps = len(inputs) // size
    optimizer = _optimizer(recipe, network)
    total = recipe.epochs * steps + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(  # which divides by its steps of warming up
        optimizer, recipe.learning_rate, total_steps=total, pct_start=max(0.1, 2.0 / total)
    )
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        generator.set_state(saved["generator"])
        torch.set_rng_state(saved["dropout"])
        done = saved["epochs"]
    progress = tqdm(
        range(done, recipe.epochs), initial=done, total=recipe.epochs, desc=f"pre-training {task.name}", unit="epoch"
    )
    for epoch in progress:
        network.train()
        for batch in torch.randperm(len(inputs), generator=generator)[: steps * size].split(size):
            loss = task.loss(network(augmentation(inputs[batch], generator)), training.targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
        if checkpoint is not None:
            state = {name: part.state_dict() for name, part in parts.items()}
            generators = {"generator": generator.get_state(), "dropout": torch.get_rng_state()}
            partial = checkpoint.with_suffix(".part")
            torch.save(state | generators | {"epochs": epoch + 1}, partial)
            partial.replace(checkpoint)
    network.eval()


def _optimizer(recipe: PretrainingRecipe, network: nn.Module) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)


def score(network: nn.Module, examples: Examples, task: Task) -> float:
    """Return the task's metric of a network in evaluation mode on examples, in float32."""
    with pinned_arithmetic(), torch.no_grad():
        batches = map(task.dataset.normalize, examples.inputs.split(_MEASURING_BATCH))
        outputs = torch.cat([network(_channels_last(batch)) for batch in batches])
        return float(task.metric(outputs, examples.targets))


def _channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs
