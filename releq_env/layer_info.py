"""What the agent and the cost functions need to know of a layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerInfo:
    """One quantizable layer: a convolution or a fully connected layer.

    Attributes:
        name: Qualified module name, e.g. `"features.0"`.
        n: Output channels or features.
        c: Input channels or features (per group).
        k: Kernel size (the first spatial dimension), 0 for a fully connected layer.
        weights: Number of weights, without the bias.
        macs: Multiply-accumulates for one input.
        std: Standard deviation of the full-precision weights.
        scales: Scale factors that the quantizer stores for it: 1 a tensor, or n one an output channel.
    """

    name: str
    n: int
    c: int
    k: int
    weights: int
    macs: int
    std: float
    scales: int = 1
