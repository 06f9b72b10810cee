"""Who learns how fast."""

import pytest
import torch

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
