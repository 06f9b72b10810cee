"""Layers that share a bitwidth: one decision for several layers."""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from releq_env.errors import ReLeQError, short
from releq_env.evaluation.live import LiveSource
from releq_env.layer_info import LayerInfo
from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting


class GroupedSource:
    """A `Source` whose assignments have one bitwidth a group of layers of another one.

    Args:
        source: Measures assignments with one bitwidth a layer.
        groups: Indices of the layers of each group; every layer is in one.

    Attributes:
        source: As given.
        layers: One description a group.
    """

    def __init__(self, source: LiveSource, groups: Sequence[Sequence[int]], layers: Sequence[LayerInfo]) -> None:
        self.source = source
        self.layers = tuple(layers)
        self._groups = [tuple(group) for group in groups]
        self._group_of = {index: number for number, group in enumerate(self._groups) for index in group}

    @property
    def retraining(self) -> Any:
        """What measures an assignment of all layers."""
        return self.source.retraining

    @property
    def full_precision_accuracy(self) -> float:
        """See `Source`."""
        return self.source.full_precision_accuracy

    @property
    def fingerprint(self) -> Mapping[str, object] | None:
        """See `Source`. Groups of one layer each are measured as these layers are."""
        known = self.source.fingerprint
        if known is None or len(self._groups) == len(self._group_of):
            return known
        return known | {"groups": [list(group) for group in self._groups]}

    @property
    def retrain_seed(self) -> Seed:
        """See `Source`."""
        return self.source.retrain_seed

    def every_layer(self, assignment: Sequence[int]) -> Assignment:
        """Return the assignment with one bitwidth a layer."""
        return tuple(assignment[self._group_of[index]] for index in range(len(self._group_of)))

    def check(self, assignment: Assignment) -> None:
        """See `Source`."""
        if len(assignment) != len(self._groups):
            raise ReLeQError(
                f"the assignment {short(assignment)} has {len(assignment)} bitwidths; give {len(self._groups)}, one a "
                "layer or group"
            )
        self.source.check(self.every_layer(assignment))

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        """See `Source`."""
        first = [group[0] for group in self._groups]
        for whole, measured in self.source.measure(_Spread(waiting, self)):
            yield tuple(whole[index] for index in first), measured

    def reseeded(self, retrain_seed: Seed) -> "GroupedSource":
        """See `Source`."""
        other = self.source.reseeded(retrain_seed)
        return self if other is self.source else GroupedSource(other, self._groups, self.layers)

    def close(self) -> None:
        """See `Source`."""
        self.source.close()


class _Spread(Waiting):
    """What waits, with one bitwidth a layer."""

    def __init__(self, waiting: Waiting, source: GroupedSource) -> None:
        super().__init__(())
        self._waiting, self._source = waiting, source

    def __len__(self) -> int:
        return len(self._waiting) + super().__len__()

    def take(self) -> Assignment | None:
        assignment = self._waiting.take()
        return super().take() if assignment is None else self._source.every_layer(assignment)


def grouped(source: LiveSource, groups: Any) -> LiveSource | GroupedSource:
    """Return a source with one decision a group.

    Args:
        source: Of single layers.
        groups: Lists of layers' names, or a dictionary of such lists by the groups' names. A list of one name says
            nothing, unless the group has a name of its own.

    Raises:
        ReLeQError: If they are something else, or name what is no quantizable layer, or one twice.
    """
    pairs, index = _pairs(groups), {layer.name: number for number, layer in enumerate(source.layers)}
    _check_members([member for _, members in pairs for member in members], index)
    named = _named(pairs)
    if not named:
        return source
    group_of = {index[member]: name for name, members in named.items() for member in members}
    decisions: dict[str, list[int]] = {}
    for number, layer in enumerate(source.layers):
        decisions.setdefault(group_of.get(number, layer.name), []).append(number)
    layers = [
        source.layers[members[0]] if name not in named else _together(name, [source.layers[at] for at in members])
        for name, members in decisions.items()
    ]
    if len({layer.name for layer in layers}) != len(decisions) or any(name in index for name in named):
        raise ReLeQError(f"groups has a name that is a layer's, too; give others than {', '.join(index)}")
    return GroupedSource(source, list(decisions.values()), layers)


def _pairs(groups: Any) -> list[tuple[str | None, list[str]]]:
    """Return each group's own name, or `None`, and its members."""
    accepted = "give lists of layers' names, or a dictionary from a group's name to its list"
    if isinstance(groups, str) or not isinstance(groups, Collection):
        raise ReLeQError(f"groups={short(groups)} is not accepted; {accepted}")
    pairs = list(groups.items()) if isinstance(groups, Mapping) else [(None, members) for members in groups]
    for _, members in pairs:
        if isinstance(members, str) or not isinstance(members, Collection) or not members:
            raise ReLeQError(f"groups has {short(members)}; {accepted}")
    return [(None if name is None else str(name), list(members)) for name, members in pairs]


def _check_members(members: Sequence[Any], layers: Collection[str]) -> None:
    seen: set[str] = set()
    for member in members:
        if not isinstance(member, str) or member not in layers:
            raise ReLeQError(f"groups has {short(member)}, which is no layer; there are {', '.join(layers)}")
        if member in seen:
            raise ReLeQError(f"groups has {member!r} twice; a layer is in one group")
        seen.add(member)


def _named(pairs: Sequence[tuple[str | None, list[str]]]) -> dict[str, list[str]]:
    """Return the members by the groups' names; without those that say nothing."""
    named: dict[str, list[str]] = {}
    for own, members in pairs:
        name = "+".join(members) if own is None else own
        if name in named:
            raise ReLeQError(f"groups has two of the name {name!r}; give each another one")
        if len(members) > 1 or name != members[0]:
            named[name] = members
    return named


def _together(name: str, layers: list[LayerInfo]) -> LayerInfo:
    weights = sum(layer.weights for layer in layers)
    return replace(
        layers[0],
        name=name,
        weights=weights,
        macs=sum(layer.macs for layer in layers),
        std=sum(layer.std * layer.weights for layer in layers) / weights,
        scales=sum(layer.scales for layer in layers),
        members=tuple(layer.name for layer in layers),
        parts=tuple(layers),
    )
