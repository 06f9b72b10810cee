from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from releq_env.cost.size import size
from releq_env.errors import ReLeQError
from releq_env.export import load_packed, packed_size, save_packed
from releq_env.quantization import QUANTIZERS, quantizable_layers, quantize, with_scales
from releq_env.tasks import TASKS
from tests.export.networks import INPUTS, LAYERS, quantized_small, same_outputs, small, trained

ASSIGNMENTS = ("least", "2", "3", "5", "most", "mixed")


@pytest.mark.parametrize("task", ["digits", "mnist", "cifar10", "svhn"])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_file_is_hardly_larger(task: str, quantizer: str, assignment: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, shape = TASKS[task].untrained(), TASKS[task].dataset.input_shape
    layers = with_scales(quantizable_layers(network, shape), quantizer)
    accepted = QUANTIZERS[quantizer].bitwidths
    bits = {
        "least": [accepted[0]] * len(layers),
        "most": [accepted[-1]] * len(layers),
        "mixed": [accepted[index * 3 % len(accepted)] for index in range(len(layers))],
    }.get(assignment) or [int(assignment)] * len(layers)
    inputs = torch.randn(2, *shape)
    quantized = trained(quantize(network, [layer.name for layer in layers], bits, quantizer), inputs)
    path = tmp_path / "network"
    save_packed(quantized, path)
    theory, found = packed_size(network, layers, bits), path.stat().st_size
    assert packed_size(quantized, layers, bits) == theory
    assert theory < found <= 1.02 * theory + 4000
    full = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert theory < full * (max(bits) / 32 + 0.06)
    assert same_outputs(quantized, load_packed(path, TASKS[task].untrained()), inputs)


def test_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 9, 2))
    layers = with_scales(quantizable_layers(network, (1, 5, 5)), "lsq")
    # 27 weights of 3 bits and 54 of 1 bit with a scale a channel; 3 + 2 biases, 4 * 3 numbers and one int64 of the norm
    assert packed_size(network, layers, (3, 1)) == 11 + 4 * 3 + 7 + 4 * 2 + 4 * 5 + 4 * 12 + 8


def test_the_weights_are_those_of_the_cost_model() -> None:
    network = small()
    layers = with_scales(quantizable_layers(network, INPUTS.shape[1:]), "dorefa")
    one, two = (2, 3, 4, 5, 6), (7, 3, 4, 5, 8)
    difference = packed_size(network, layers, two) - packed_size(network, layers, one)
    assert difference == sum(map(size, layers, two)) - sum(map(size, layers, one))


def test_what_is_shared_or_computed_counts_once() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    shared = nn.Sequential(plain[0], plain[1], plain[1])
    layers = quantizable_layers(plain, (4,))[:1]
    assert packed_size(plain, layers, [8]) == (16 + 4) + 4 * 4 + 2 * 4 * 20
    assert packed_size(shared, layers, [8]) == (16 + 4) + 4 * 4 + 4 * 20
    normed = nn.Sequential(weight_norm(nn.Linear(4, 4)), *plain[1:])
    assert packed_size(normed, layers, [8]) == packed_size(plain, layers, [8])


def test_other_layers_are_refused() -> None:
    layers = quantizable_layers(small(), INPUTS.shape[1:])
    with pytest.raises(ReLeQError, match="2 bitwidths for 5 layers; give one a layer"):
        packed_size(small(), layers, [2, 2])
    with pytest.raises(ReLeQError, match="Linear has no layer '0'"):
        packed_size(nn.Linear(2, 2), layers, [2] * len(LAYERS))


def test_a_file_of_a_small_network_is_mostly_its_header(tmp_path: Path) -> None:
    save_packed(quantized_small(), tmp_path / "network")
    layers = with_scales(quantizable_layers(small(), INPUTS.shape[1:]), "lsq")
    header = (tmp_path / "network").stat().st_size - packed_size(small(), layers, (2, 3, 4, 5, 6))
    assert 0 < header < 4000


class Deep(nn.Sequential):
    """Very many small layers, each with a normalisation: the worst for whatever a file has a tensor."""

    def __init__(self) -> None:
        blocks = [nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)) for _ in range(60)]
        super().__init__(*blocks)


def test_a_file_of_a_deep_network_is_hardly_larger(tmp_path: Path) -> None:
    network = Deep()
    layers = with_scales(quantizable_layers(network, (24, 2, 2)), "lsq")
    bits = [2] * len(layers)
    save_packed(quantize(network, [layer.name for layer in layers], bits), tmp_path / "network")
    theory = packed_size(network, layers, bits)
    assert theory < (tmp_path / "network").stat().st_size <= 1.02 * theory + 4000
