"""Draw what the search of `examples/own_network.py` has measured: the picture that README begins with.

python -m benchmarks.own_network
"""

import csv
from pathlib import Path

from benchmarks.common.recording import RESULTS
from releq_env.command import ends_in_one_line
from releq_env.report.pictures import FAINT, INK, MAIN, SECOND, THIRD, new_figure, styled

FOLDER = RESULTS / "own-network"
_LEAST = 0.99
"""The constraint of the search, `releq_env.search`'s default."""


def draw(evaluations: Path, picture: Path) -> None:
    """Draw bytes against accuracy of all that was measured, uniform assignments and the best one marked.

    Args:
        evaluations: The search's `evaluations.csv`.
        picture: The PNG file.
    """
    with evaluations.open() as file:
        rows = list(csv.DictReader(file))
    places = {
        tuple(map(int, row["bitwidths"].split())): (
            float(row["state_of_quantization"]),
            float(row["relative_accuracy"]),
        )
        for row in rows
    }
    best = max(rows, key=lambda row: float(row["reward"]))["bitwidths"]
    uniform = {bits[0]: place for bits, place in sorted(places.items()) if len(set(bits)) == 1}
    figure = new_figure(7.0, 3.8)
    axis = styled(figure.subplots())
    axis.plot(*zip(*places.values(), strict=True), ".", color=FAINT, markersize=6, label=f"{len(rows)} evaluations")
    axis.plot(
        *zip(*uniform.values(), strict=True), "s-", color=SECOND, linewidth=1, label="the same bits in all layers"
    )
    for bits, place in uniform.items():
        axis.annotate(str(bits), place, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9, color=INK)
    place = places[tuple(map(int, best.split()))]
    axis.plot(*place, "*", color=THIRD, markersize=15, label=f"found: {best}")
    axis.axhline(_LEAST, color=MAIN, linestyle="--", linewidth=1, label=f"accuracy to keep: {_LEAST}")
    axis.set_xlabel("bytes of the weights, relative to 8 bits in all layers", color=INK)
    axis.set_ylabel("validation accuracy, relative to float32", color=INK)
    axis.legend(loc="lower right", fontsize=9)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    with ends_in_one_line():
        draw(FOLDER / "evaluations.csv", FOLDER / "search.png")
        print(FOLDER / "search.png")
