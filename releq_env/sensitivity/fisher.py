"""Diagonal Fisher information times squared quantization error."""

import time

import torch

from releq_env.sensitivity.probe import Probe
from releq_env.tables.sensitivities import Proxy


def fisher(probe: Probe) -> Proxy:
    """Return `1/2 sum_i F_ii e_i**2`: the second-order rise of the loss, of a minimum, with a diagonal Hessian.

    `F_ii` is the mean over images of the squared derivative of an image's loss by weight i (the empirical Fisher
    information: with the true targets), `e` what quantizing adds to the weights. BRECQ (Li et al. 2021,
    arXiv 2102.05426) and FIT (Zandonati et al. 2022, arXiv 2210.08502) weigh quantization errors so; FIT takes the
    mean of the diagonal where here each weight has its own.
    """
    begun = time.process_time()
    network, offsets = probe.differentiable()
    diagonals = [torch.zeros_like(offset, dtype=torch.float64) for offset in offsets]
    for inputs, targets in probe.batches(1):  # the square of each image's own
        gradients = torch.autograd.grad(probe.loss(network, inputs, targets), offsets, materialize_grads=True)
        probe.backward += len(inputs)
        for layer, gradient in enumerate(gradients):
            diagonals[layer] += gradient.double() ** 2
    rows = [
        [float((diagonal * error.double() ** 2).sum()) / (2.0 * probe.images) for error in probe.errors(layer)]
        for layer, diagonal in enumerate(diagonals)
    ]
    return probe.proxy(rows, time.process_time() - begun)
