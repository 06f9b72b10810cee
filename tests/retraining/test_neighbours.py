import copy

import pytest
import torch
from torch import Tensor, nn

from releq_env.retraining.batch_norm import fold
from releq_env.retraining.fused import fuse
from releq_env.retraining.neighbours import neighbours, unchanged

IMAGES = torch.randn(4, 1, 10, 10, generator=torch.Generator().manual_seed(0))


class Branch(nn.Module):
    """A convolution, a pool and an activation, and whatever a subclass does with them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), between or nn.MaxPool2d(2), nn.ReLU())
        self.gate = nn.Parameter(torch.zeros(1))


class Walked(Branch):
    def forward(self, images: Tensor) -> Tensor:
        for layer in self.features:
            images = layer(images)
        return images


class InPlace(Walked):
    def __init__(self) -> None:
        super().__init__()
        self.features[2] = nn.ReLU(inplace=True)


class Attributes(Branch):
    def forward(self, images: Tensor) -> Tensor:
        first, pool, activation = self.features
        pooled = pool(first(images))
        assert pooled.dim() == pooled.ndim == len(pooled.shape) == 4
        assert pooled.size(0) == len(images)
        return activation(pooled).flatten(1)


@pytest.mark.parametrize("network", [Walked(), InPlace(), Attributes()], ids=lambda network: type(network).__name__)
def test_neighbours_are_found_wherever_they_are_called(network: nn.Module) -> None:
    assert ("features.1", "features.2") in neighbours(network.eval(), IMAGES)


class Skip(Branch):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features[1](self.features[0](images))
        return pooled + self.features[2](pooled)


class ClosedSkip(Branch):
    """What it computes tells nothing of its skip, what it learns does."""

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features[1](self.features[0](images))
        return self.gate * pooled + self.features[2](pooled)


class WalkedSkip(Branch):
    def forward(self, images: Tensor) -> Tensor:
        results = [images]
        for layer in self.features:
            results.append(layer(results[-1]))
        return torch.cat([results[-1].flatten(1), results[-2].flatten(1)], dim=1)


class Both(Branch):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.features[1](self.features[0](images))
        self.features[2](pooled)
        return pooled


class Twice(Branch):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features[1](self.features[0](images))
        return self.features[2](self.features[2](pooled))


class Numbers(Branch):
    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features[1](self.features[0](images))
        return self.features[2](pooled) * (1.0 if pooled.amin().item() < 0 else 2.0)


@pytest.mark.parametrize("kind", [Skip, ClosedSkip, WalkedSkip, Both, Twice, Numbers])
def test_what_others_see_too_is_between_no_neighbours(kind: type[Branch]) -> None:
    network = kind().eval()
    pairs = neighbours(network, IMAGES)
    assert ("features.1", "features.2") not in pairs
    before = network(IMAGES)
    fuse(network, pairs)
    assert torch.equal(network(IMAGES), before)


class WeightSeen(Branch):
    def forward(self, images: Tensor) -> Tensor:
        return self.features[1](self.features[0](images)) * self.features[0].weight.abs().mean()


class OutputSeen(Branch):
    def forward(self, images: Tensor) -> Tensor:
        before = self.features[0](images)
        return before + self.features[1](before)


@pytest.mark.parametrize("kind", [WeightSeen, OutputSeen])
def test_a_convolution_that_is_used_beside_its_batch_norm_is_not_folded(kind: type[Branch]) -> None:
    network = kind(nn.BatchNorm2d(2, affine=False)).train()
    network(IMAGES)
    before = network.eval()(IMAGES)
    fold(network, neighbours(network, IMAGES))
    assert torch.equal(network(IMAGES), before)


@pytest.mark.parametrize("index", range(3))
def test_there_are_none_where_a_hook_may_look(index: int) -> None:
    network = Walked().eval()
    network.features[index].register_forward_hook(lambda *_: None)
    assert neighbours(network, IMAGES) == []


def test_a_module_with_two_names_is_nobodys_neighbour() -> None:
    network = Walked().eval()
    network.other = network.features[1]
    assert neighbours(network, IMAGES) == []


def test_the_network_is_left_as_it_is() -> None:
    network = Walked().eval()
    before = copy.deepcopy(network.state_dict())
    neighbours(network, IMAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Seen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, images: Tensor) -> Tensor:
        return images * 2.0


class Hidden(Branch):
    """What takes the skip is no function of torch."""

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features[1](self.features[0](images))
        return _Seen.apply(pooled) + self.features[2](pooled)


def test_what_a_change_does_is_noticed() -> None:
    pair = [("features.1", "features.2")]
    assert unchanged(lambda network: fuse(network, pair), Walked().eval(), IMAGES, 0.0)
    assert not unchanged(lambda network: fuse(network, pair), Hidden().eval(), IMAGES, 0.0)
