"""From a network of your own to a smaller file: search, final retraining, export.

python examples/own_network.py            # Fashion-MNIST, in torchvision's layout under RELEQ_DATA
python examples/own_network.py --quick    # scikit-learn's digits
"""

import os
import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

import releq_env
from releq_env.tasks import PretrainingRecipe

QUICK, RUN = "--quick" in sys.argv, "runs/own_network"
FIRST, BUDGET, EACH = (PretrainingRecipe(epochs=15), 5, 0.5) if QUICK else (PretrainingRecipe(epochs=10), 40, 10.0)


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inner + self.short(x))


def network() -> nn.Module:
    blocks = [Block(1, 16, 1 if QUICK else 2), Block(16, 32, 2), Block(32, 64, 2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def data() -> list[tuple[Tensor, Tensor]]:  # training, validation, test: inputs as the network takes them, and labels
    if QUICK:
        images, labels = map(torch.tensor, load_digits(return_X_y=True))
        images, cuts = images.float().reshape(-1, 1, 8, 8) / 16.0, [1000, 400, 397]
    else:
        parts = [FashionMNIST(os.environ.get("RELEQ_DATA", "data"), train, download=True) for train in (True, False)]
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("data", "targets"))
        images, cuts = images.unsqueeze(1) / 255.0, [55_000, 5_000, 10_000]
    return list(zip(images.split(cuts), labels.split(cuts), strict=True))


if __name__ == "__main__":  # worker processes import this file
    train, validation, test = data()
    found = releq_env.search(network(), train, validation, budget=BUDGET, seconds=EACH, pretraining=FIRST, folder=RUN)
    found.save(RUN)
    print(found)
    recipe = releq_env.FinalRecipe(epochs=5 if QUICK else 10, control_rates=(1e-3,))
    final = f"{RUN}/final/{'-'.join(map(str, found.bitwidths))}"  # where agents.report looks for it
    print(releq_env.finalize(found, seeds=(0,), recipe=recipe, test_data=test, folder=final))
    smaller = releq_env.load_packed(f"{final}/network.safetensors", network())
    print("read back:", f"{(smaller(test[0]).argmax(1) == test[1]).float().mean():.2%} of the test data")
