"""Random small tables, with what makes tables hard: gaps, ties, several seeds, layers that differ."""

import itertools
from typing import NamedTuple

from hypothesis import strategies as st

from releq_env.layer_info import LayerInfo
from releq_env.tables import AccuracyTable

Record = tuple[tuple[int, ...], int, float]


class Made(NamedTuple):
    """A table and the records it was made from."""

    table: AccuracyTable
    records: list[Record]


@st.composite
def tables(draw: st.DrawFn, seeds: int = 2) -> Made:
    """Tables of up to 3 layers of up to 4 bitwidths, and up to so many seeds, in any order and with repeats."""
    count = draw(st.sampled_from([2, 3, 1]))
    choices = [draw(st.sampled_from([(1, 2, 3), (2, 4), (1, 2, 4, 8), (5,)])) for _ in range(count)]
    number = st.sampled_from([1, 2, 37])  # ties of cost, too
    layers = [
        LayerInfo(f"layer{index}", n=1, c=1, k=1, weights=draw(number), macs=draw(number), std=1.0, scales=draw(number))
        for index in range(count)
    ]
    space = [
        (bitwidths, seed) for bitwidths in itertools.product(*choices) for seed in range(draw(st.integers(1, seeds)))
    ]
    some = st.lists(st.sampled_from(space), min_size=1, unique=True)
    most = st.sets(st.sampled_from(space), max_size=3).map(lambda gone: [each for each in space if each not in gone])
    kept = draw(st.one_of(most.filter(len), some))
    values = draw(st.lists(st.integers(0, 12), min_size=len(kept), max_size=len(kept)))  # few: ties
    records = [(bitwidths, seed, value / 12) for (bitwidths, seed), value in zip(kept, values, strict=True)]
    repeated = draw(st.permutations(records + records[: draw(st.integers(0, 3))]))
    bitwidths, of_record, accuracy = zip(*repeated, strict=True)
    table = AccuracyTable.from_records(
        bitwidths, accuracy, seeds=of_record, layers=layers, choices=choices, full_precision_accuracy=11 / 12
    )
    return Made(table, records)


objectives = st.fixed_dictionaries(
    {
        "reward": st.sampled_from(["constrained", "shaped", "ratio", "difference", "released"]),
        "cost": st.sampled_from(["mean_bits", "weighted_bits", "energy", "bitops", "size"]),
        "min_relative_accuracy": st.sampled_from([0.3, 0.7, 1.0]),
    },
    optional={"max_cost": st.sampled_from([0.4, 0.75, 1.0])},
)
