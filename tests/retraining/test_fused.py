import pytest
import torch
import torch.nn.functional as F
from torch import nn

from releq_env.retraining.data import channels_last
from releq_env.retraining.fused import HalvingMaxPoolReLU, fuse
from releq_env.retraining.neighbours import neighbours
from releq_env.tasks.networks import LeNet

SHAPES = [(2, 1, 8, 8), (3, 5, 6, 10), (2, 3, 7, 9), (1, 16, 2, 2)]


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Distinct values of both signs, which bfloat16 has too, so that every maximum is at one place."""
    count = torch.Size(shape).numel()
    values = torch.arange(15_000, 15_000 + (count + 1) // 2, dtype=torch.int16).view(torch.bfloat16)
    values = torch.cat([values, -values])[:count]
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return channels_last(values[chosen].reshape(shape).to(dtype)).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_halving_pool_is_max_pool_and_relu_with_their_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mine, theirs = images(shape, dtype), images(shape, dtype)
    pooled, expected = HalvingMaxPoolReLU()(mine), F.relu(F.max_pool2d(theirs, 2))
    assert torch.equal(pooled, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)


def test_equal_values_get_the_gradient_once() -> None:
    tied = torch.ones(1, 2, 4, 4, requires_grad=True)
    HalvingMaxPoolReLU()(tied).sum().backward()
    assert tied.grad is not None
    assert torch.equal(F.avg_pool2d(tied.grad, 2) * 4, torch.ones(1, 2, 2, 2))


def test_infinities_and_nan_come_through() -> None:
    special = torch.tensor([[-torch.inf, 1.0], [torch.inf, 2.0]]).view(1, 1, 2, 2)
    assert HalvingMaxPoolReLU()(special).item() == torch.inf
    assert HalvingMaxPoolReLU()(torch.full((1, 1, 2, 2), torch.nan)).isnan().all()
    assert HalvingMaxPoolReLU()(torch.full((1, 1, 2, 2), -0.0)).item() == 0.0


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_last_changes_strides_only(shape: tuple[int, ...]) -> None:
    given = torch.randn(shape)
    assert torch.equal(channels_last(given), given)
    assert channels_last(given).stride()[1] == 1


def fused(network: nn.Module) -> nn.Module:
    """The network, changed in place."""
    fuse(network, neighbours(network.eval()))
    return network


def test_a_fused_network_computes_the_same() -> None:
    network = LeNet().eval()
    batch = torch.randn(4, 1, 28, 28)
    expected = network(batch)
    fused(network)
    assert isinstance(network.pool1, HalvingMaxPoolReLU)
    assert isinstance(network.relu1, nn.Identity)
    torch.testing.assert_close(network(channels_last(batch)), expected)


def test_pool_may_come_after_the_activation() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    expected = network(images((2, 1, 10, 10)))
    fused(network)
    assert isinstance(network[1], HalvingMaxPoolReLU)
    torch.testing.assert_close(network(images((2, 1, 10, 10))), expected)


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)],
)
def test_other_pools_are_left_alone(pool: nn.MaxPool2d) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), pool, nn.ReLU())
    fused(network)
    assert network[1] is pool


def test_a_pool_without_an_activation_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Sigmoid())
    fused(network)
    assert type(network[1]) is nn.MaxPool2d


def test_an_in_place_activation_may_follow() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(inplace=True))
    expected = network(images((2, 1, 10, 10)))
    fused(network)
    actual = network(images((2, 1, 10, 10)))
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()


def test_the_result_may_be_changed_in_place() -> None:
    gradients = []
    for fast in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Hardswish(inplace=True))
        if fast:
            fused(network)
            assert isinstance(network[1], HalvingMaxPoolReLU)
        network(images((2, 1, 10, 10))).sum().backward()
        gradients.append(network[0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_other_shapes_pass_through() -> None:
    assert torch.equal(HalvingMaxPoolReLU()(torch.ones(3, 4, 4)), torch.ones(3, 2, 2))
    assert torch.equal(HalvingMaxPoolReLU()(torch.ones(1, 3, 4, 4).double()), torch.ones(1, 3, 2, 2).double())
    assert channels_last(torch.ones(5, 7)).shape == (5, 7)
