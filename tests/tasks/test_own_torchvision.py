"""Networks of torchvision at small input: searched, packed and read back. Minutes, and no real data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import releq_env
from releq_env.tasks import RetrainingRecipe

IMAGES = 96


def made(name: str, **arguments: Any) -> nn.Module:
    import torchvision.models

    torch.manual_seed(0)
    network: nn.Module = getattr(torchvision.models, name)(num_classes=4, **arguments)
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet18": (lambda: made("resnet18"), 21, 32),
    "mobilenet_v3_small": (lambda: made("mobilenet_v3_small"), 54, 32),
    "vit_b_16": (lambda: made("vit_b_16", image_size=32), 38, 32),
}
"""What makes it, how many layers it has, and the size of its images."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torchvision(name: str, tmp_path: Path) -> None:
    make, layers, size = NETWORKS[name]
    network = make()
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * IMAGES) % 4
    images = torch.randn(2 * IMAGES, 3, size, size, generator=draw) + labels.reshape(-1, 1, 1, 1)
    result = releq_env.search(
        network,
        (images[:IMAGES], labels[:IMAGES]),
        (images[IMAGES:], labels[IMAGES:]),
        retraining=RetrainingRecipe(images=64, batch_size=16, learning_rate=1e-4),
        budget=3,
        batch=1,
        method="random",
        workers=1,
        precision="fp32",
        cache=None,
        progress=False,
    )
    own = result.problem.own
    assert own is not None
    assert len(result.problem.layers) == layers
    in_layers = sum(layer.weights for layer in result.problem.layers)
    everything = sum(parameter.numel() for parameter in network.parameters())
    assert in_layers > (0.7 if name == "vit_b_16" else 0.95) * everything
    if name == "vit_b_16":
        reason = own.left_out["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"]
        assert "projections of query, key and value" in reason
        assert "encoder.layers.encoder_layer_0.self_attention.out_proj" in result.assignment
    assert len({each.bitwidths for each in result.evaluations}) == 3
    result.save(tmp_path)
    restored = releq_env.load_packed(tmp_path / "network.safetensors", network)
    with torch.no_grad():
        assert torch.equal(restored(images[:8]), result.network(images[:8]))
