"""Strided 1x1 convolutions of few channels: the same results, and no broken heap."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from releq_env.tasks.strides import without_strides

TRAINING = """
import torch
from torch import nn
from releq_env import Problem
from releq_env.tasks import PretrainingRecipe, RetrainingRecipe

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.short = nn.Conv2d({channels}, 16, 3, 2, 1), nn.Conv2d({channels}, 16, 1, 2)
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        return self.last(torch.relu(self.wide(x) + self.short(x)).mean((2, 3)))

if __name__ == "__main__":
    torch.manual_seed(0)
    data, more = ((torch.randn(96, {channels}, 28, 28), torch.arange(96) % 10) for _ in range(2))
    problem = Problem.from_network(
        Net(), data, more, cache=None, workers=1, pretraining=PretrainingRecipe(epochs=2),
        retraining=RetrainingRecipe(images=192, batch_size=32),
    )
    for bits in (2, 4, 8):
        problem.evaluator.evaluate((bits,) * 3)
    print("finished")
"""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [2, (1, 2), (3, 2)])
def test_results_and_gradients_are_the_same(channels: int, stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    given = nn.Sequential(nn.Conv2d(channels, 5, 1, stride), nn.Flatten())
    changed = without_strides(copy.deepcopy(given))
    images = torch.randn(4, channels, 9, 10)
    weights = [network[0].weight for network in (given, changed)]
    outputs = [network(images) for network in (given, changed)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), w)[0] for out, w in zip(outputs, weights)))  # noqa: B905
    assert list(given.state_dict()) == list(changed.state_dict())
    again = pickle.loads(pickle.dumps(copy.deepcopy(changed)))
    torch.testing.assert_close(again(images), outputs[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(8, 4, 1, 2), nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1, 2, padding=1)],
    ids=["many channels", "kernel", "stride 1", "padding"],
)
def test_other_layers_stay_as_they_are(layer: nn.Conv2d) -> None:
    stride = layer.stride
    assert without_strides(layer) is layer
    assert layer.stride == stride
    assert not layer._forward_pre_hooks


@pytest.mark.processes
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_with_such_layers_trains_to_the_end(channels: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TRAINING.format(channels=channels)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "finished" in run.stdout
