"""Trace of the Hessian times squared quantization error."""

import time

import torch

from releq_env.errors import ReLeQError
from releq_env.sensitivity.probe import Probe
from releq_env.tables.sensitivities import Proxy

_VECTORS = 8
_SEED = 0


def hessian(probe: Probe) -> Proxy:
    """Return `trace(H) / weights * sum_i e_i**2` of every layer, as HAWQ-V2 (Dong et al. 2019, arXiv 1911.03852).

    The trace of the layer's own block is estimated by Hutchinson's method, with 8 vectors of random signs a
    batch of images; one that comes out below 0 counts as 0.

    Raises:
        ReLeQError: If something in the network cannot be differentiated twice.
    """
    begun = time.process_time()
    network, offsets = probe.differentiable()
    generator = torch.Generator().manual_seed(_SEED)
    traces = [0.0] * len(offsets)
    for _ in range(_VECTORS):
        for inputs, targets in probe.batches():
            signs = [(torch.randint(0, 2, each.shape, generator=generator) * 2.0 - 1.0).to(each) for each in offsets]
            try:
                loss = probe.loss(network, inputs, targets)
                gradients = torch.autograd.grad(loss, offsets, create_graph=True, materialize_grads=True)
                along = sum((gradient * sign).sum() for gradient, sign in zip(gradients, signs, strict=True))
                assert isinstance(along, torch.Tensor)
                products = torch.autograd.grad(along, offsets, materialize_grads=True)
            except RuntimeError as error:
                raise ReLeQError(f"the network cannot be differentiated twice ({error}); leave out hessian") from error
            probe.backward += 2 * len(inputs)
            for layer, (product, sign) in enumerate(zip(products, signs, strict=True)):
                traces[layer] += float((product.double() * sign).sum()) * len(inputs) / (probe.images * _VECTORS)
    rows = [
        [max(trace, 0.0) / error.numel() * float((error.double() ** 2).sum()) for error in probe.errors(layer)]
        for layer, trace in enumerate(traces)
    ]
    return probe.proxy(rows, time.process_time() - begun)
