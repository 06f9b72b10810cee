"""Row d: what quantizing costs a training step, in the default precision, with one thread."""

import contextlib
from collections.abc import Iterator, Sequence

from benchmarks.speed.measuring import Measure, Options, Reading, child, networks, values
from benchmarks.speed.steps import step_seconds, steps_of
from benchmarks.speed.table import Line, ratio

LETTER = "d"


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds a step, with and without; which comes first changes from round to round."""
    with child() as process:

        def run(network: str, quantized: bool, steps: int) -> Reading:
            seconds = process.submit(step_seconds, network, "auto", quantized, steps).result()
            return Reading("d", "quantized" if quantized else "plain", "s", seconds, network)

        for network in options.networks:
            run(network, True, 1)
        yield lambda number: [
            run(network, quantized, steps_of(network, options))
            for network in options.networks
            for quantized in (number % 2 > 0, number % 2 == 0)
        ]


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare the two."""
    return [
        ratio("d", f"{network}: quantized step / full-precision step", quantized, plain, "<= 1.10", "ms")
        for network in networks(readings, "d")
        for quantized, plain in [[values(readings, "d", side, network) for side in ("quantized", "plain")]]
    ]
