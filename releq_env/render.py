"""Pictures of an assignment: bars by layer, with accuracy and cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_env.layer_info import LayerInfo

_WIDTH, _ROW, _MARGIN = 640, 36, 24
_INK, _BAR, _CURRENT, _TRACK = (30, 30, 30), (70, 120, 190), (230, 130, 40), (228, 232, 238)


def _summary(info: Mapping[str, Any]) -> str:
    accuracy = "not measured yet"
    if "accuracy" in info:
        accuracy = f"{info['accuracy']:.4f} ({info['relative_accuracy']:.4f} of full precision)"
    return f"average bits {info['average_bits']:.2f}   q {info['state_of_quantization']:.3f}   accuracy {accuracy}"


def render_ansi(layers: Sequence[LayerInfo], largest: int, info: Mapping[str, Any]) -> str:
    """Return one line a layer (`>` marks the layer at hand) and a summary.

    Args:
        layers: Of the problem.
        largest: The largest bitwidth there is.
        info: Of the environment.
    """
    width = max(len(layer.name) for layer in layers)
    lines = [
        f"{'>' if index == info['layer'] else ' '} {layer.name:<{width}}  {bits} {'█' * bits}{'·' * (largest - bits)}  "
        f"{layer.weights:>9,} weights"
        for index, (layer, bits) in enumerate(zip(layers, info["bitwidths"].tolist(), strict=True))
    ]
    return "\n".join([*lines, "  " + _summary(info)])


def render_rgb(layers: Sequence[LayerInfo], largest: int, info: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return the same as an image, uint8, shape `(height, 640, 3)`."""
    # Pillow comes with torchvision; imported here because most environments are never drawn.
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_WIDTH, _ROW * len(layers) + 2 * _MARGIN + 20), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14)
    left, right = 130, _WIDTH - 150
    for index, (layer, bits) in enumerate(zip(layers, info["bitwidths"].tolist(), strict=True)):
        top = _MARGIN + index * _ROW
        colour = _CURRENT if index == info["layer"] else _BAR
        draw.text((_MARGIN, top + 5), layer.name, fill=_INK, font=font)
        draw.rectangle((left, top, right, top + _ROW - 10), fill=_TRACK)
        draw.rectangle((left, top, left + (right - left) * bits / largest, top + _ROW - 10), fill=colour)
        draw.text((left + 8, top + 5), f"{bits} bits", fill="white" if bits / largest > 0.15 else _INK, font=font)
        draw.text((right + 10, top + 5), f"{layer.weights:,} weights", fill=_INK, font=font)
    draw.text((_MARGIN, _MARGIN + len(layers) * _ROW + 6), _summary(info), fill=_INK, font=font)
    return np.asarray(image).copy()
