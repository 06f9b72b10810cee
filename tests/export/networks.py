"""Networks to be packed."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from releq_env.quantization import quantize


class Small(nn.Sequential):
    """Convolutions, one grouped and one with a kernel of one, two kinds of normalisation, linear layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, groups=3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3, stride=2),
            nn.BatchNorm2d(5, affine=False),
            nn.ReLU(),
            nn.Conv2d(5, 7, 1),
            nn.Flatten(),
            nn.Linear(7 * 9, 11),
            nn.Dropout(),
            nn.Linear(11, 3, bias=False),
        )


LAYERS = ("0", "3", "6", "8", "10")
INPUTS = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def trained(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Train a network a little, so that steps, biases and statistics are none that one starts with."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    network.train()
    for _ in range(3):
        network(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()


def quantized_small(quantizer: str = "lsq", bits: Sequence[int] = (2, 3, 4, 5, 6)) -> nn.Module:
    return trained(quantize(small(), LAYERS, bits, quantizer), INPUTS)


def bits_of(tensor: Tensor) -> list[int]:
    """Return a tensor as whole numbers, so that nothing compares equal that is not."""
    return tensor.detach().contiguous().view(torch.uint8).flatten().tolist()


def same_outputs(first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    first = copy.deepcopy(first).eval()
    with torch.no_grad():
        return bits_of(first(inputs)) == bits_of(second(inputs))
