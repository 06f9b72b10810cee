import pytest
import torch
from torch import Tensor

from releq_env.quantization import QUANTIZERS

SHAPES = [(6, 3, 3, 3), (5, 7), (4, 2, 3)]


def drawn(quantizer: str, shape: tuple[int, ...]) -> tuple[list[int], Tensor, Tensor]:
    """All bitwidths, each twice and mixed; weights of a candidate each; and a gradient."""
    generator = torch.Generator().manual_seed(0)
    bits = [*QUANTIZERS[quantizer].bitwidths, *reversed(QUANTIZERS[quantizer].bitwidths)]
    scales = torch.rand(len(bits), generator=generator).reshape(-1, *(1,) * len(shape))
    stack = scales * torch.randn(len(bits), *shape, generator=generator)
    stack[:, 0] = 0.0  # a channel of zeros
    stack[:, 1, 0], stack[:, 1, 1] = -0.0, stack.abs().flatten(1).amax(1).view(-1, *(1,) * (len(shape) - 2))
    stack[:, 2] *= 100.0  # outside of the range
    return bits, stack, torch.randn(stack.shape, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_values_and_gradients_are_those_of_each_alone(quantizer: str, shape: tuple[int, ...]) -> None:
    bits, stack, grad = drawn(quantizer, shape)
    stack.requires_grad_()
    together = QUANTIZERS[quantizer].make_stacked(stack, bits)
    trained = dict(together.named_parameters())
    with torch.no_grad():
        for step in trained.values():
            step.sub_(1.2)  # so that weights are outside of the range here, too
    quantized = together(stack)
    quantized.backward(grad)
    for k, b in enumerate(bits):
        weight = stack[k].detach().clone().requires_grad_()
        alone = QUANTIZERS[quantizer].make(weight, b)
        with torch.no_grad():
            for step in alone.parameters():
                step.sub_(1.2)
        expected = alone(weight)
        expected.backward(grad[k])
        assert torch.equal(quantized[k], expected)
        assert len(quantized[k].unique()) <= 2**b * shape[0]
        torch.testing.assert_close(stack.grad[k], weight.grad, rtol=1e-6, atol=0)
        for name, step in alone.named_parameters():
            assert torch.equal(trained[name][k], step)
            torch.testing.assert_close(trained[name].grad[k], step.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_what_is_no_number_stays_with_its_candidate(quantizer: str, value: float) -> None:
    bits, stack, grad = drawn(quantizer, (5, 7))
    broken = stack.clone()
    broken[1::2] = value
    gradients = []
    for weights in (stack, broken):
        weights.requires_grad_()
        quantized = QUANTIZERS[quantizer].make_stacked(weights, bits)(weights)
        quantized.backward(grad)
        gradients.append((quantized[::2], weights.grad[::2]))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
