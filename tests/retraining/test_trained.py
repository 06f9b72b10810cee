"""The network that is kept is the one that was measured."""

import pytest
import torch
from torch import nn

from releq_env.evaluation.live import live_source
from releq_env.export.folder import assignment
from releq_env.quantization import quantizable_layers
from releq_env.retraining.short import ShortRetraining
from releq_env.retraining.trained import retrained_network
from releq_env.tasks import TASKS, Pretrained


def accuracy_of(network: nn.Module, retraining: ShortRetraining) -> float:
    data = retraining.load()
    with torch.no_grad():
        return float((network(data.validation_inputs.float()).argmax(1) == data.validation_targets).float().mean())


@pytest.mark.parametrize("images", [0, 640])
def test_it_has_the_accuracy_that_was_measured(images: int) -> None:
    retraining = live_source("digits", retrain_images=images, precision="fp32").retraining
    bits = (2, 2, 2, 3)
    network = retrained_network(retraining, bits)
    assert accuracy_of(network, retraining) == pytest.approx(retraining.measure(bits)[0], abs=0.005)
    assert tuple(assignment(network).values()) == bits
    assert not any(module.training for module in network.modules())


def test_normalisation_is_kept_with_its_momentum() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    ).eval()
    pretrained = Pretrained(plain, quantizable_layers(plain, (1, 8, 8)), 0.5, "none", (1, 8, 8))
    network = retrained_network(ShortRetraining(TASKS["digits"], pretrained, retrain_images=64), (2, 2))
    norm = network.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.3
    assert norm.running_mean is not None
    assert not torch.equal(norm.running_mean, torch.zeros(4))
    assert [*dict(network.named_children())] == ["0", "1", "2", "3", "4"]
