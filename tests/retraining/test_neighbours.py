from functools import partial

import pytest
import torch
from torch import Tensor, nn

from releq_env.retraining.batch_norm import fold
from releq_env.retraining.fused import fuse
from releq_env.retraining.neighbours import neighbours, unchanged

IMAGES = torch.randn(4, 1, 10, 10, generator=torch.Generator().manual_seed(0))


class Branch(nn.Module):
    """A convolution, what a subclass may look at, and an activation."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), between or nn.MaxPool2d(2), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features


class Walked(Branch):
    def forward(self, images: Tensor) -> Tensor:
        for layer in self.features:
            images = layer(images)
        return images


class Tapped(Branch):
    """A skip from between the second and the third layer."""

    def forward(self, images: Tensor) -> Tensor:
        results = [images]
        for layer in self.features:
            results.append(layer(results[-1]))
        return torch.cat([results[-1].flatten(1), results[-2].flatten(1)], dim=1)


class ConvolutionTapped(Branch):
    def forward(self, images: Tensor) -> Tensor:
        before = self.features[0](images)
        return before + self.features[1](before)


class WeightSeen(Branch):
    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) * self.features[0].weight.abs().mean()


class Asking(Branch):
    """It reads what only the module that stands there at first has."""

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) * self.features[1].kernel_size


class NormAsked(Branch):
    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) / self.features[1].num_features


class Backwards(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        for layer in reversed(self):
            images = layer(images)
        return images


PAIRS = [("features.0", "features.1"), ("features.1", "features.2")]


def with_norm(kind: type[Branch]) -> Branch:
    network = kind(nn.BatchNorm2d(2, affine=False)).train()
    network(IMAGES)
    return network.eval()


@pytest.mark.parametrize("kind", [Branch, Walked, WeightSeen])
def test_consecutive_children_of_a_sequential(kind: type[Branch]) -> None:
    network = kind().eval()
    assert neighbours(network) == PAIRS
    assert unchanged(partial(fuse, pairs=PAIRS), network, IMAGES, 0.0)
    assert type(network.features[1]) is nn.MaxPool2d  # a copy was changed


@pytest.mark.parametrize("kind", [Tapped, Asking])
def test_pooling_that_others_see_too_is_not_fused(kind: type[Branch]) -> None:
    assert not unchanged(partial(fuse, pairs=PAIRS), kind().eval(), IMAGES, 0.0)


@pytest.mark.parametrize(("kind", "foldable"), [(Branch, True), (Walked, True), (ConvolutionTapped, False)])
def test_a_convolution_that_is_used_beside_its_batch_norm_is_not_folded(kind: type[Branch], foldable: bool) -> None:
    assert unchanged(partial(fold, pairs=PAIRS), with_norm(kind), IMAGES, 1e-3) == foldable


def test_reading_an_attribute_of_batch_norm_keeps_it() -> None:
    assert not unchanged(partial(fold, pairs=PAIRS), with_norm(NormAsked), IMAGES, 1e-3)


def test_a_sequential_with_a_forward_of_its_own_has_none() -> None:
    assert neighbours(Backwards(nn.ReLU(), nn.MaxPool2d(2))) == []


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_compiled_modules_are_left_alone() -> None:
    network = nn.Sequential(torch.jit.script(Branch().eval().features), nn.Flatten()).eval()
    before = network(IMAGES)
    pairs = neighbours(network)
    assert all(name in ("0", "1") for pair in pairs for name in pair)
    for change in (fuse, fold):
        assert unchanged(partial(change, pairs=pairs), network, IMAGES, 0.0)
        change(network, pairs)
    assert torch.equal(network(IMAGES), before)


def test_there_are_none_where_a_hook_may_look() -> None:
    network = Branch().eval()
    network.features[0].register_forward_hook(lambda *_: None)
    assert neighbours(network) == PAIRS[1:]
    network.features[2].register_forward_pre_hook(lambda *_: None)
    assert neighbours(network) == []


def test_a_module_with_two_names_is_nobodys_neighbour() -> None:
    network = Branch().eval()
    network.other = network.features[1]
    assert neighbours(network) == []


def test_names_in_a_network_that_is_a_sequential_itself() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
    assert neighbours(network) == [("0", "1"), ("1.0", "1.1")]
