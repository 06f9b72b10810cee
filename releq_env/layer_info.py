"""What the agent and the cost functions need to know of a layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerInfo:
    """One quantizable layer, or several that share a bitwidth.

    Attributes:
        name: Qualified module name, e.g. `"features.0"`; of several layers what the group is called.
        n: Output channels or features. Of several layers this and the next two are those of the first.
        c: Input channels or features (per group).
        k: Kernel size (the first spatial dimension), 0 for a fully connected layer or an embedding.
        weights: Number of weights, without the bias.
        macs: Multiply-accumulates for one input.
        std: Standard deviation of the full-precision weights.
        scales: Scale factors that the quantizer stores for it: 1 a tensor, or one a row of the weight.
        rows: First dimension of the weight where it is not n, as in transposed convolutions; 0 where it is.
        members: Of several layers, their module names.
        parts: Of several layers, their descriptions.
    """

    name: str
    n: int
    c: int
    k: int
    weights: int
    macs: int
    std: float
    scales: int = 1
    rows: int = 0
    members: tuple[str, ...] = ()
    parts: tuple["LayerInfo", ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """The qualified names of the modules that it stands for."""
        return self.members or (self.name,)

    @property
    def each(self) -> tuple["LayerInfo", ...]:
        """The single layers that it stands for, where they are known: what costs are summed over."""
        return self.parts or (self,)
