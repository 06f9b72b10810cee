"""The published way to evaluate an assignment, in one process or, run as a program, in a fresh one.

    python -m benchmarks.speed.published --weights FILE --images 10000

LeNet in fp32, its layers quantizing their weights in their own forward pass (WRPN, 4 bits), torchvision's
MNIST with transforms an image, a `DataLoader` without workers and Adam, all at torch's defaults; as many
threads as torch takes. It imports nothing of `releq_env`, so that a fresh process does not pay for it.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

_BITS = 4
_BATCH = 128
_VALIDATION_IMAGES = 5000
_VALIDATION_BATCH = 1000


class _RoundStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return torch.round(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def _quantized(weight: Tensor) -> Tensor:
    n = 2 ** (_BITS - 1) - 1
    rounded: Tensor = _RoundStraightThrough.apply(weight.clamp(-1.0, 1.0) * n)
    return rounded / n


class QuantConv2d(nn.Conv2d):
    """A convolution with quantized weights."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, _quantized(self.weight), self.bias)


class QuantLinear(nn.Linear):
    """A fully connected layer with quantized weights."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, _quantized(self.weight), self.bias)


class QuantLeNet(nn.Module):
    """LeNet 20-50-500-10, every layer quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = QuantConv2d(1, 20, 5)
        self.conv2 = QuantConv2d(20, 50, 5)
        self.fc1 = QuantLinear(800, 500)
        self.fc2 = QuantLinear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


@functools.cache
def data(root: str | None, images: int) -> tuple[Any, Any]:
    """Return torchvision's training and validation part; random images (their own, slow) without a root."""
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    if root is None:
        return datasets.FakeData(images, (1, 28, 28), 10, transform), datasets.FakeData(10, (1, 28, 28), 10, transform)
    everything = datasets.MNIST(root, train=True, transform=transform)
    cut = len(everything) - _VALIDATION_IMAGES
    chosen = torch.randperm(cut, generator=torch.Generator().manual_seed(0))[:images].tolist()
    return Subset(everything, chosen), Subset(everything, range(cut, len(everything)))


def evaluate(root: str | None, weights: str, images: int) -> tuple[float, float]:
    """Return validation accuracy after retraining, and the seconds from loaded data to there."""
    training, validation = data(root, images)
    start = time.perf_counter()
    network = QuantLeNet()
    network.load_state_dict(load_file(weights))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    for batch, labels in DataLoader(training, _BATCH, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(network(batch), labels).backward()
        optimizer.step()
    network.eval()
    correct = 0
    with torch.no_grad():
        for batch, labels in DataLoader(validation, _VALIDATION_BATCH):
            correct += int((network(batch).argmax(dim=1) == labels).sum())
    return correct / len(validation), time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate once and print the accuracy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.published", description=main.__doc__)
    parser.add_argument("--root", help="folder with torchvision's MNIST (default: random images)")
    parser.add_argument("--weights", required=True, help="safetensors file of the pre-trained LeNet")
    parser.add_argument("--images", type=int, default=10_000, help="images to retrain on")
    args = parser.parse_args(argv)
    print(evaluate(args.root, args.weights, args.images)[0])


if __name__ == "__main__":
    main()
