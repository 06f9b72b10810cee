import pytest
import torch
from torch import nn

from releq_env.quantization import quantizable_layers, quantize
from releq_env.retraining.batch_norm import calibration_batches, fold, recalibrate
from releq_env.retraining.neighbours import neighbours
from releq_env.tasks.networks import SVHN8

IMAGES = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def quantized(quantizer: str = "lsq", bits: int = 2) -> nn.Module:
    torch.manual_seed(0)
    network = SVHN8().eval()
    names = [layer.name for layer in quantizable_layers(network, (3, 32, 32))]
    copy = quantize(network, names, [bits] * len(names), quantizer)
    recalibrate(copy, [IMAGES])
    return copy


def folded_in_place(network: nn.Module) -> None:
    """Neighbours are looked for in a plain network."""
    plain = SVHN8().eval() if isinstance(network, SVHN8) else network
    fold(network, neighbours(plain))


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_statistics_are_those_of_the_quantized_network() -> None:
    network = quantized()
    with torch.no_grad():
        first = network.features[0](IMAGES)  # type: ignore[index,operator]
    torch.testing.assert_close(norms(network)[0].running_mean, first.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norms(network)[0].running_var, first.var(dim=(0, 2, 3)))
    assert not any(norm.training for norm in norms(network))
    assert [norm.momentum for norm in norms(network)] == [norm.momentum for norm in norms(SVHN8())]


def test_batches_count_the_same() -> None:
    large, small, both = quantized(), quantized(), quantized()
    recalibrate(large, [IMAGES[:40]])
    recalibrate(small, [IMAGES[40:]])
    recalibrate(both, [IMAGES[:40], IMAGES[40:]])
    for one, other, mean in zip(norms(large), norms(small), norms(both), strict=True):
        torch.testing.assert_close(mean.running_mean, (one.running_mean + other.running_mean) / 2)
        torch.testing.assert_close(mean.running_var, (one.running_var + other.running_var) / 2)


@pytest.mark.parametrize(("quantizer", "bits"), [("lsq", 1), ("lsq", 2), ("lsq", 8), ("wrpn", 4), ("dorefa", 4)])
def test_folding_changes_neither_outputs_nor_gradients(quantizer: str, bits: int) -> None:
    # In double precision: a ReLU that rounding turns on is no difference.
    plain, folded = quantized(quantizer, bits).double(), quantized(quantizer, bits).double()
    folded_in_place(folded)
    assert not norms(folded)
    assert len(norms(plain)) == 7
    results, gradients = [], []
    for network in (plain, folded):
        logits = network(IMAGES[:16].double())
        nn.functional.cross_entropy(logits, torch.arange(16) % 10).backward()
        results.append(logits)
        gradients.append([p.grad for p in network.parameters() if p.requires_grad])
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-8)
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert (one - other).norm() <= 1e-6 * one.norm() + 1e-12


def test_the_codes_stay() -> None:
    """Quantize first, scale then: every channel has at most four levels at two bits."""
    network = quantized(bits=2)
    folded_in_place(network)
    for channel in network.features[0].weight:  # type: ignore[index,union-attr]
        assert len(channel.unique()) <= 4


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)],  # trained parameters of its own
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)],  # a trained bias
        [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False, track_running_stats=False)],
        [nn.ConvTranspose2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)],  # channels elsewhere
        [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(4, affine=False)],
        # channels that are not its outputs
        [nn.Flatten(2), nn.Linear(1024, 3, bias=False), nn.BatchNorm1d(3, affine=False)],
    ],
)
def test_what_cannot_be_folded_is_left_alone(layers: list[nn.Module]) -> None:
    network = nn.Sequential(*layers).eval()
    expected = network(IMAGES)
    folded_in_place(network)
    assert list(network) == layers
    assert torch.equal(network(IMAGES), expected)


def test_what_is_used_elsewhere_too_is_left_alone() -> None:
    shared = nn.Conv2d(3, 3, 3, bias=False)
    network = nn.Sequential(shared, nn.BatchNorm2d(3, affine=False), shared, nn.BatchNorm2d(3, affine=False)).eval()
    recalibrate(network, [IMAGES])
    expected = network(IMAGES)
    folded_in_place(network)
    assert torch.equal(network(IMAGES), expected)


def test_no_batch_has_one_input() -> None:
    """A channel would have one value then, and no variance."""
    for count in (1, 2, 500, 501, 502, 1000, 2000):
        batches = list(calibration_batches(IMAGES[:1, :1, 0, 0].expand(count, 1)))
        assert sum(map(len, batches)) == min(count, 1000)
        assert all(len(batch) > 1 for batch in batches) or count == 1


def test_normalisation_that_is_not_called_keeps_its_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2)).eval()
    network.aux = nn.BatchNorm1d(2).eval()
    network.aux.running_mean.fill_(3.0)
    network.aux.num_batches_tracked.fill_(9)
    network.forward = network[0].forward
    recalibrate(network, [torch.randn(8, 2)])
    assert network.aux.running_mean.tolist() == [3.0, 3.0]
    assert int(network.aux.num_batches_tracked) == 9
    assert int(network[0].num_batches_tracked) == 1


def test_sorted_inputs_are_mixed() -> None:
    inputs = torch.arange(5000.0).unsqueeze(1)
    batches = list(calibration_batches(inputs, mixed=True))
    assert [len(batch) for batch in batches] == [500, 500]
    for batch in batches:  # each has some of everything: the mean of 500 is within five standard errors
        assert abs(float(batch.mean()) - 2499.5) < 5 * 1443.4 / 500**0.5
    assert len(torch.cat(batches).unique()) == 1000
    assert all(map(torch.equal, batches, calibration_batches(inputs, mixed=True)))
    assert torch.equal(torch.cat(list(calibration_batches(inputs))), inputs[:1000])
