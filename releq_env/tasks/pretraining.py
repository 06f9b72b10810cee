"""Train a task's full-precision network on the training part of its data.

`python -m releq_env.tasks.pretraining mnist` remakes the shipped weights and their record.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from releq_env.errors import ReLeQError
from releq_env.tasks.datasets import Dataset, Images
from releq_env.tasks.pretrained import SHIPPED, write
from releq_env.tasks.task import TASKS, PretrainingRecipe, Task, get_task

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
    recipe = task.pretraining
    training, validation = task.dataset.load(data_root)
    images = task.dataset.normalize(training.images).contiguous(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = task.network().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = len(images) // recipe.batch_size
    optimizer = _optimizer(recipe, network)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps + 1, pct_start=0.1
    )
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])  # type: ignore[attr-defined]  # all three have it
        generator.set_state(saved["generator"])
        done = saved["epochs"]
    progress = tqdm(
        range(done, recipe.epochs), initial=done, total=recipe.epochs, desc=f"pre-training {task.name}", unit="epoch"
    )
    for epoch in progress:
        network.train()
        for batch in torch.randperm(len(images), generator=generator)[: steps * recipe.batch_size].split(
            recipe.batch_size
        ):
            loss = F.cross_entropy(network(augment(images[batch], recipe, generator)), training.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
        if checkpoint is not None:
            state = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
            partial = checkpoint.with_suffix(".part")
            torch.save(state | {"generator": generator.get_state(), "epochs": epoch + 1}, partial)
            partial.replace(checkpoint)
    network.eval()
    accuracies = {"validation_accuracy": accuracy(network, validation, task.dataset)}
    if with_test:
        accuracies["test_accuracy"] = accuracy(network, task.dataset.load_test(data_root), task.dataset)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return network.to(memory_format=torch.contiguous_format), accuracies


def _optimizer(recipe: PretrainingRecipe, network: nn.Module) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)


def augment(images: Tensor, recipe: PretrainingRecipe, generator: torch.Generator) -> Tensor:
    """Return randomly mirrored and shifted images, same shape."""
    count, _, height, width = images.shape
    if recipe.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if recipe.shift:
        size = 2 * recipe.shift + 1
        padded = F.pad(images, (recipe.shift,) * 4)
        rows = torch.randint(size, (count, 1), generator=generator) + torch.arange(height)
        columns = torch.randint(size, (count, 1), generator=generator) + torch.arange(width)
        every = torch.arange(count).view(-1, 1, 1)
        images = padded[every, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(network: nn.Module, data: Images, dataset: Dataset) -> float:
    """Return the share of images that a network classifies correctly, in float32."""
    correct = 0
    for images, labels in zip(data.images.split(_MEASURING_BATCH), data.labels.split(_MEASURING_BATCH), strict=True):
        batch = dataset.normalize(images).contiguous(memory_format=torch.channels_last)
        correct += int((network(batch).argmax(dim=1) == labels).sum())
    return correct / len(data.labels)


def main() -> None:
    """Remake the shipped weights of the tasks that are named."""
    parser = argparse.ArgumentParser(prog="python -m releq_env.tasks.pretraining", description=main.__doc__)
    parser.add_argument("tasks", nargs="+", choices=list(TASKS), help="which weights to remake")
    parser.add_argument("--data-root", help="folder of the data (default: RELEQ_DATA, else the cache folder)")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where to write (default: in the package)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # with one thread a kind of processor gives the same bytes every time
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.tasks:
        task = get_task(name)
        checkpoint = args.output / f"{name}.checkpoint"
        network, accuracies = pretrain(task, args.data_root, checkpoint, with_test=True)
        write(task, args.output / f"{name}.json", network, accuracies)
        print(json.dumps({"task": name, **asdict(task.pretraining), **accuracies}))


if __name__ == "__main__":
    try:
        main()
    except ReLeQError as error:
        raise SystemExit(f"error: {error}") from None
