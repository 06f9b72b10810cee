"""The layers of a table, or of a function."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from releq_env.errors import ReLeQError, short
from releq_env.layer_info import LayerInfo

_LARGEST = 2**62
_COUNTS = ("n", "c", "k", "weights", "macs", "scales", "rows")


def plain_layers(count: int) -> tuple[LayerInfo, ...]:
    """Return descriptions of layers of which nothing is known: all alike, of one weight."""
    return tuple(LayerInfo(f"layer{index}", n=1, c=1, k=1, weights=1, macs=1, std=1.0) for index in range(count))


def check_layers(layers: Sequence[LayerInfo], count: int) -> tuple[LayerInfo, ...]:
    """Return descriptions of layers, checked: they may come from a file.

    Raises:
        ReLeQError: If they are not as many, or hold something else than they should.
    """
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, LayerInfo) for layer in layers):
        raise ReLeQError(f"layers={short(layers)} is not accepted; give a list with a LayerInfo a layer")
    if len(layers) != count:
        raise ReLeQError(f"layers describes {len(layers)} layers and assignments have {count}; give as many")
    for layer in layers:
        counts = [getattr(layer, name) for name in _COUNTS]
        whole = all(isinstance(value, Integral) for value in counts) and isinstance(layer.std, Real)
        number = whole and all(not isinstance(value, bool) and 0 <= value < _LARGEST for value in (*counts, layer.std))
        named = isinstance(layer.members, list | tuple) and all(isinstance(name, str) for name in layer.members)
        if not (number and named and isinstance(layer.name, str)):
            raise ReLeQError(f"the layer {short(layer)} is not described by numbers from 0; see LayerInfo")
    if len({layer.name for layer in layers}) != count:
        raise ReLeQError("two layers have the same name; give each its own")
    return tuple(map(_plain, layers))


def _plain(layer: LayerInfo) -> LayerInfo:
    """Return a layer described by Python's own numbers, as JSON takes them."""
    counts: dict[str, Any] = {name: int(getattr(layer, name)) for name in _COUNTS}
    return replace(layer, **counts, std=float(layer.std), members=tuple(layer.members), parts=_parts(layer))


def _parts(layer: LayerInfo) -> tuple[LayerInfo, ...]:
    """Return the layers of a group, of which JSON makes lists of dictionaries."""
    parts = [part if isinstance(part, LayerInfo) else LayerInfo(**part) for part in layer.parts]
    return check_layers(parts, len(layer.members)) if parts else ()
