"""Who learns how fast."""

import pytest
import torch
from torch import Tensor, nn

from releq_env.quantization import QUANTIZERS, quantize
from releq_env.retraining.rates import parameter_groups, rate_factor
from releq_env.tasks.networks import DigitsNet

LAYERS = ("conv1", "conv2", "fc1", "fc2")


def test_few_bits_learn_at_the_full_rate() -> None:
    assert [rate_factor(bits, slower=True) for bits in (1, 2, 4, 8)] == [1.0, 1.0, 0.5, 0.25]
    assert {rate_factor(bits, slower=False) for bits in (1, 2, 4, 8)} == {1.0}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_parameter_has_its_rate(quantizer: str) -> None:
    network = quantize(DigitsNet(), LAYERS, (2, 4, 8, 2), quantizer)
    groups = parameter_groups(network, dict(zip(LAYERS, (2, 4, 8, 2), strict=True)), rate=1e-3)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        if name.endswith("log_step"):
            expected = 0.01
        else:
            bits = dict(zip(LAYERS, (2, 4, 8, 2), strict=True))[name.split(".")[0]]
            expected = 1e-3 * rate_factor(bits, slower=quantizer == "lsq")
        assert rates[id(parameter)] == expected
    assert len({group["lr"] for group in groups}) == len(groups)


def test_what_is_not_trained_is_left_out() -> None:
    network = quantize(DigitsNet(), LAYERS, (2, 2, 2, 2)).requires_grad_(False)
    assert parameter_groups(network, dict.fromkeys(LAYERS, 2), 1e-3) == []


def test_adam_moves_weights_by_their_rate() -> None:
    network = quantize(DigitsNet(), LAYERS, (2, 8, 2, 2))
    before = [network.get_submodule(name).parametrizations.weight.original.detach().clone() for name in LAYERS[:2]]
    optimizer = torch.optim.Adam(parameter_groups(network, dict(zip(LAYERS, (2, 8, 2, 2), strict=True)), 1e-3))
    network(torch.randn(8, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    moved = [
        (network.get_submodule(name).parametrizations.weight.original - start).abs().max().item()
        for name, start in zip(LAYERS, before, strict=False)
    ]
    assert moved == pytest.approx([1e-3, 0.25e-3], rel=1e-2)


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, rows: Tensor) -> Tensor:
        return self.second(self.first(rows).relu())


@pytest.mark.parametrize("assignment", [(2, 8), (8, 2)])
def test_a_shared_weight_learns_by_the_first_of_its_layers(assignment: tuple[int, int]) -> None:
    network = quantize(Tied(), ("first", "second"), assignment)
    groups = parameter_groups(network, dict(zip(("first", "second"), assignment, strict=True)), 1e-3)
    weight = network.get_submodule("first").parametrizations.weight.original
    (rate,) = [group["lr"] for group in groups if any(parameter is weight for parameter in group["params"])]
    assert rate == 1e-3 * rate_factor(assignment[0], slower=True)
