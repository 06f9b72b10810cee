import pytest
import torch
from torch import nn

from releq_env.quantization import quantizable_layers
from releq_env.tasks import TASKS
from releq_env.tasks.networks import SVHN8, DigitsNet, LeNet, SimpleNet

LENET = [500, 25_000, 400_000, 5_000]
SIMPLENET = [450, 2_400, 48_000, 10_080, 840]
SVHN = [864, 9_216, 18_432, 36_864, 73_728, 147_456, 294_912, 2_560]


@pytest.mark.parametrize(
    ("network", "shape", "weights"),
    [
        (DigitsNet, (1, 8, 8), [144, 4_608, 32_768, 640]),
        (LeNet, (1, 28, 28), LENET),
        (SimpleNet, (3, 32, 32), SIMPLENET),
        (SVHN8, (3, 32, 32), SVHN),
    ],
)
def test_layers_are_the_papers(network: type[nn.Module], shape: tuple[int, ...], weights: list[int]) -> None:
    layers = quantizable_layers(network(), shape)
    assert [layer.weights for layer in layers] == weights


def test_lenet_multiply_accumulates() -> None:
    layers = quantizable_layers(LeNet(), (1, 28, 28))
    assert [layer.macs for layer in layers] == [24 * 24 * 500, 8 * 8 * 25_000, 400_000, 5_000]


def test_every_task_fits_its_data(task_name: str) -> None:
    task = TASKS[task_name]
    with torch.no_grad():
        assert task.network().eval()(torch.zeros(2, *task.dataset.input_shape)).shape == (2, 10)


def test_logits_can_be_negative(task_name: str) -> None:
    # A ReLU on the logits is a defect of the authors' code.
    task = TASKS[task_name]
    torch.manual_seed(0)
    with torch.no_grad():
        logits = task.network().eval()(torch.randn(8, *task.dataset.input_shape))
    assert (logits < 0).any()


def test_svhn_normalises_without_affine_parameters() -> None:
    norms = [module for module in SVHN8().modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 7
    assert not any(norm.affine for norm in norms)
