"""How much memory data take that are larger than their limit. With `-s` the figures are printed."""

from collections.abc import Callable
from pathlib import Path

import pytest

MEASURE = """
import sys, threading, time
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from releq_env import Problem
from releq_env.tasks import RetrainingRecipe

class Images(Dataset):  # 49 KB each
    def __init__(self, count, first):
        self.count, self.first = count, first
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        label = (index + self.first) % 10
        return label / 10 + torch.rand(3, 64, 64), label

def megabytes(*kinds):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return sum(int(lines[kind].split()[0]) for kind in kinds) / 1000

def evaluated(count, limit):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    recipe = RetrainingRecipe(images=count, batch_size=32, learning_rate=1e-3)
    data = Images(count, 0), Images(64, 3)
    problem = Problem.from_network(network, *data, data_limit=limit, retraining=recipe, cache=None, workers=1)
    return problem.evaluator.evaluate((4, 4)).accuracy

def watch():
    while True:
        peaks.append((megabytes("RssAnon", "RssShmem"), megabytes("VmRSS")))
        time.sleep(0.005)

evaluated(64, 4.0)  # what is loaded once
before = megabytes("RssAnon", "RssShmem"), megabytes("VmRSS")
peaks = [before]
threading.Thread(target=watch, daemon=True).start()
accuracy = evaluated(4096, float(sys.argv[1]))
own, all_of_it = (max(column) - start for column, start in zip(list(zip(*peaks)), before))
print(accuracy, round(own), round(all_of_it))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_is_bounded_by_the_limit(python: Callable[..., str]) -> None:
    (in_files, own, resident), (in_memory, more, _) = (python(MEASURE, limit).split() for limit in ("0.05", "0.65"))
    print(f"\n201 MB: in files {own} MB more of the process's own, {resident} with what is mapped; in memory {more}")
    assert in_files == in_memory  # the accuracies
    slack = 50  # batches under way
    assert int(own) < 50 + slack
    assert 2 * 201 < int(more) < 650 + slack
