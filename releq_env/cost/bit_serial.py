"""Cycles of an accelerator that takes weights one bit at a time."""

from releq_env.layer_info import LayerInfo

FILTERS, WINDOWS, INPUTS = 256, 16, 16
"""What is worked on at once: filters; places of each in the input; products of each. This model's own numbers."""


def bit_serial(layer: LayerInfo, bits: int) -> float:
    """Return `ceil(filters / 256) * ceil(windows / 16) * ceil(weights of a filter / 16) * bits` cycles.

    After Stripes (Judd et al., MICRO 2016, doi 10.1109/MICRO.2016.7783722), of which the execution time is almost
    proportional to the bits of what comes serially. There these are the activations; here the
    weights, which are what is quantized, as ReLeQ assumes of it. Windows are the places at which a filter is
    applied: `macs / weights`, 1 for a fully connected layer, of which 15 of 16 units then idle. Memory is not
    counted: it is assumed to keep up.
    """
    filters = max(layer.n, 1)
    windows = -(-layer.macs // max(layer.weights, 1))
    each = -(-layer.weights // filters)
    return float(-(-filters // FILTERS) * -(-windows // WINDOWS) * -(-each // INPUTS) * bits)
