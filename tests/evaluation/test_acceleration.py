import pytest
import torch
import torch.nn.functional as F
from torch import nn

from releq_env.evaluation.acceleration import HalvingMaxPool2d, accelerate, channels_last
from releq_env.tasks.networks import LeNet

SHAPES = [(2, 1, 8, 8), (3, 5, 6, 10), (2, 3, 7, 9), (1, 16, 2, 2)]


def images(shape: tuple[int, ...]) -> torch.Tensor:
    """Distinct values, so that every maximum is at one place."""
    count = torch.Size(shape).numel()
    values = torch.randperm(count, generator=torch.Generator().manual_seed(0)).float()
    return channels_last((values - count / 2).reshape(shape)).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
def test_halving_pool_is_max_pool_with_its_gradient(shape: tuple[int, ...]) -> None:
    mine, theirs = images(shape), images(shape)
    pooled, expected = HalvingMaxPool2d()(mine), F.max_pool2d(theirs, 2)
    assert torch.equal(pooled, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)


def test_equal_values_get_the_gradient_once() -> None:
    tied = torch.zeros(1, 2, 4, 4, requires_grad=True)
    HalvingMaxPool2d()(tied).sum().backward()
    assert tied.grad is not None
    assert torch.equal(F.avg_pool2d(tied.grad, 2) * 4, torch.ones(1, 2, 2, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_last_changes_strides_only(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape)
    assert torch.equal(channels_last(given), given)
    assert channels_last(given).stride()[1] == 1


def test_accelerated_network_computes_the_same() -> None:
    network = LeNet().eval()
    batch = torch.randn(4, 1, 28, 28)
    expected = network(batch)
    accelerate(network)
    assert isinstance(network.pool1, HalvingMaxPool2d)
    torch.testing.assert_close(network(channels_last(batch)), expected)


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)],
)
def test_other_pools_are_left_alone(pool: nn.MaxPool2d) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), pool)
    accelerate(network)
    assert network[1] is pool


def test_an_in_place_activation_may_follow() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(inplace=True))
    expected = network(images((2, 1, 10, 10)))
    accelerate(network)
    actual = network(images((2, 1, 10, 10)))
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()


def test_other_shapes_pass_through() -> None:
    assert torch.equal(HalvingMaxPool2d()(torch.ones(3, 4, 4)), torch.ones(3, 2, 2))
    assert channels_last(torch.ones(5, 7)).shape == (5, 7)
