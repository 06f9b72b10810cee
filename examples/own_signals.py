"""A network for one-dimensional signals: it tells slow, fast and rising waves apart.

python examples/own_signals.py
"""

import math

import torch
from torch import Tensor, nn

import releq_env
from releq_env.tasks import PretrainingRecipe


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy signals, shape `(count, 1, 128)`, and which kind each is."""
    draw = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (count,), generator=draw)
    time, phase = torch.linspace(0.0, 1.0, 128), 2.0 * math.pi * torch.rand(count, 1, generator=draw)
    rate = torch.tensor([5.0, 9.0, 5.0])[kind].unsqueeze(1) + torch.tensor([0.0, 0.0, 4.0])[kind].unsqueeze(1) * time
    signal = torch.sin(2.0 * math.pi * rate * time + phase) + 2.0 * torch.randn(count, 128, generator=draw)
    return signal.unsqueeze(1), kind


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(1, 16, 9, stride=2, bias=False), nn.BatchNorm1d(16), nn.ReLU()),
        *(nn.Conv1d(16, 32, 5, stride=2, bias=False), nn.BatchNorm1d(32), nn.ReLU()),
        *(nn.Conv1d(32, 32, 5, dilation=2, groups=4, bias=False), nn.BatchNorm1d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3)),
    )


if __name__ == "__main__":  # worker processes import this file
    found = releq_env.search(
        network(),
        waves(4000, seed=0),
        waves(1000, seed=1),
        pretraining=PretrainingRecipe(epochs=12, batch_size=64),
        budget=16,
        seconds=2.0,
        folder="runs/own_signals",
    )
    print(found)
    for each in found.curve:
        size = found.problem.size_in_bytes(each.bitwidths)
        print(f"{size:6,} bytes: {' '.join(map(str, each.bitwidths))}, accuracy {each.accuracy:.3f}")
    found.save("runs/own_signals")
