"""The loss after quantizing one layer alone, nothing retrained."""

import time

import torch
from torch import nn

from releq_env.sensitivity.probe import Probe
from releq_env.tables.sensitivities import Proxy


def post_training_loss(probe: Probe) -> Proxy:
    """Return by how much the training loss rises if one layer is quantized and the others are not.

    Normalisation has its statistics estimated anew, as where a short retraining starts. In the loss's own unit.
    """
    begun = time.process_time()
    full = _mean_loss(probe, probe.full_precision())
    rows = [
        [_mean_loss(probe, probe.alone(layer, bits)) - full for bits in of_layer]
        for layer, of_layer in enumerate(probe.choices)
    ]
    return probe.proxy(rows, time.process_time() - begun)


@torch.no_grad()
def _mean_loss(probe: Probe, network: nn.Module) -> float:
    total = sum(float(probe.loss(network, inputs, targets)) * len(inputs) for inputs, targets in probe.batches())
    return total / probe.images
