"""What every format is given."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from releq_env.export.about import About
from releq_env.export.content import Content


class Model(NamedTuple):
    """A quantized network to be exported.

    Attributes:
        network: As `load_packed` returns it: ordinary layers with dequantized weights.
        content: Of the packed file.
        about: With the shape of an input, if it is known.
        path: Of the packed file.
    """

    network: nn.Module
    content: Content
    about: About
    path: Path
