"""How much each layer suffers at each of its bitwidths, as a table keeps it: values, and what they cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_env.choices import Choices
from releq_env.errors import ReLeQError, check_choice, short

VERSION = 1


@dataclass(frozen=True)
class Cost:
    """What it took to measure a proxy.

    Attributes:
        seconds: Of the processor, on one thread, without loading the data; of evaluations, of the clock.
        images: Distinct training images that were looked at.
        forward: Images that were passed forward through a network.
        backward: Images whose loss was differentiated; a Hessian's product with a vector counts twice.
        evaluations: Short retrainings with a measurement on validation; 0 for what is free of training.
    """

    seconds: float
    images: int = 0
    forward: int = 0
    backward: int = 0
    evaluations: int = 0


@dataclass(frozen=True)
class Proxy:
    """One number a layer and bitwidth: how much is lost if this layer alone has that bitwidth.

    Attributes:
        values: A row a layer, a number for each of its choices; larger is worse.
        cost: What they cost.
    """

    values: tuple[tuple[float, ...], ...]
    cost: Cost


@dataclass(frozen=True)
class Sensitivities:
    """The proxies of a network under a quantizer.

    Attributes:
        choices: The bitwidths of each layer that the values are of, ascending.
        proxies: By name, see `releq_env.sensitivity.PROXIES`.
    """

    choices: Choices
    proxies: Mapping[str, Proxy]

    def matrix(self, proxy: str, choices: Choices) -> NDArray[np.float64]:
        """Return a proxy's values, shape `(layers, most choices)`; a shorter row has its last one again.

        Args:
            proxy: Its name.
            choices: The bitwidths of each layer that are asked for.

        Raises:
            ReLeQError: If there is no such proxy here, or a bitwidth was not measured.
        """
        check_choice("proxy", proxy, self.proxies)
        if len(choices) != len(self.choices):
            raise ReLeQError(
                f"sensitivities are of {len(self.choices)} layers and the problem has {len(choices)}; measure them anew"
            )
        width = max(map(len, choices))
        rows = []
        for known, of_layer, values in zip(self.choices, choices, self.proxies[proxy].values, strict=True):
            lacking = sorted(set(of_layer) - set(known))
            if lacking:
                raise ReLeQError(
                    f"there is no sensitivity at {lacking[0]} bits, only at {', '.join(map(str, known))}; "
                    "choose among these, or measure them anew"
                )
            row = [values[known.index(bits)] for bits in of_layer]
            rows.append(row + row[-1:] * (width - len(row)))
        return np.array(rows, dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Return the same JSON-able, as `parse` reads it."""
        return {"version": VERSION, "choices": self.choices, "proxies": {k: asdict(v) for k, v in self.proxies.items()}}


def parse(given: Any, layers: int) -> Sensitivities | None:
    """Return what a table's metadata hold of sensitivities, checked: they may come from anywhere.

    Args:
        given: As `Sensitivities.as_dict` makes it; empty where there are none.
        layers: How many layers the table has.

    Raises:
        ReLeQError: In one line, if it is something else.
    """
    if not given:
        return None
    try:
        if given["version"] != VERSION:
            raise ValueError(f"version {short(given['version'])}, and this version of releq_env reads {VERSION}")
        choices = tuple(tuple(map(_whole, of_layer)) for of_layer in given["choices"])
        if len(choices) != layers or not all(choices):
            raise ValueError(f"choices of {len(choices)} layers, not {layers}")
        proxies = {str(name): _proxy(each, choices) for name, each in given["proxies"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise ReLeQError(f"the sensitivities of the table are damaged ({said}); build it again") from error
    return Sensitivities(choices, proxies)


def given(values: Any, choices: Choices) -> Sensitivities:
    """Return numbers that a person typed, a row a layer and one a choice, as the only proxy: `given`.

    Raises:
        ReLeQError: If they do not fit the choices.
    """
    try:
        rows = tuple(tuple(map(_number, row)) for row in values)
        return Sensitivities(choices, {"given": _proxy({"values": rows, "cost": {"seconds": 0.0}}, choices)})
    except (TypeError, ValueError) as error:
        shape = ", ".join(str(len(of_layer)) for of_layer in choices)
        raise ReLeQError(
            f"sensitivities={short(values)} does not fit ({error}); give {len(choices)} rows, one a layer, with "
            f"a number for each of its choices ({shape})"
        ) from None


def _proxy(given: Mapping[str, Any], choices: Sequence[Sequence[int]]) -> Proxy:
    values = tuple(tuple(map(_number, row)) for row in given["values"])
    if [len(row) for row in values] != [len(of_layer) for of_layer in choices]:
        raise ValueError("values do not have the shape of the choices")
    cost = Cost(**given["cost"])
    if not all(_number(each) >= 0 for each in asdict(cost).values()):
        raise ValueError("a cost is below 0")
    return Proxy(values, cost)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{short(value)} is not a bitwidth")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f"{short(value)} is not a finite number")
    return float(value)
