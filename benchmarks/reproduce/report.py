"""The results of all rows in one file, and the page about them; nothing is measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.recording import write
from benchmarks.reproduce import pictures
from benchmarks.reproduce.choosing import measured, read_rows
from benchmarks.reproduce.rows import ROWS, Row
from benchmarks.reproduce.searching import SEED
from benchmarks.reproduce.walking import LIMIT, MARGIN
from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.quantization import QUANTIZERS
from releq_env.report.markdown import table
from releq_env.tables import AccuracyTable

PAPER_ASSIGNMENTS = {"mnist": (2, 2, 3, 2), "cifar10": (5, 5, 5, 5, 5)}
"""As we read the paper."""
_HEADER = (
    *("row", "assignment", "average bits", "weighted bits", "bytes", "loss, points", "95 % interval", "seeds"),
    *("the paper", "searched by", "paid"),
)
_CHOSEN_HEADER = ("row", "assignment", "loss on validation", "seeds", "constraints of the searches", "retrained")


def write_report(folder: Path, chosen: Path) -> str:
    """Write `reproduction.json` beside the folder, and the page with its pictures in it; return the table.

    Args:
        folder: Of the results.
        chosen: Of the choices and their searches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = {name: _read(folder / name / "result.json") for name in ROWS}
    results = {name: content for name, content in results.items() if content}
    rows = [_with_search(ROWS[name], content, chosen) for name, content in results.items()]
    write(folder.with_name(f"{folder.name}.json"), {"rows": rows})
    shown = table(_HEADER, map(_line, rows), aligned=False)
    parts = ["# The paper's headline, remade", _introduction(), shown, _said(rows)]
    if rows:
        pictures.losses(rows, folder / "losses.png")
        parts += ["![Loss against average bits](losses.png)"]
    parts += ["## What was chosen, and how", *_choices(chosen), "## The searches", *_searches(folder, chosen)]
    replace_file(folder / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    return shown


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's content, nothing where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ReLeQError(f"{path} cannot be read ({error}); delete it, and it is made again") from error
    return found


def _with_search(row: Row, result: Mapping[str, Any], chosen: Path) -> dict[str, Any]:
    folder = chosen / row.name
    paid = len({each["bitwidths"] for run in _runs(folder) for each in read_rows(run / "evaluations.csv")})
    screened = measured(folder / "screened.csv", _read(folder / "chosen.json").get("screened", ""))
    found = {"searched_by": row.algorithm, "search_seed": SEED, "distinct_evaluations": paid}
    return {"row": row.name, **result, **found, "screened": len(screened)}


def _runs(folder: Path) -> list[Path]:
    return [run for name in ("search", "search-calibrated") if (run := folder / name).exists()]


def _line(row: Mapping[str, Any]) -> list[str]:
    interval = row["loss_interval"]
    return [
        f"{row['network']}, {row['task']}, {row['quantizer']}" + _version(row),
        " ".join(map(str, row["bitwidths"])),
        f"{row['average_bits']:.2f}",
        f"{row['weighted_bits']:.2f}",
        f"{row['bytes']:,} of {row['full_precision_bytes']:,}",
        f"{row['loss']:.2f}" + ("" if "control_accuracies" in row else " (one control)"),
        "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        " ".join(map(str, row["seeds"])),
        f"{row['paper_bits']:g}" + (", its quantizer" if row["paper_quantizer"] else ""),
        f"{row['searched_by']}, seed {row['search_seed']}",
        f"{row['distinct_evaluations']}" + (f", {row['screened']} for a third" if row["screened"] else ""),
    ]


def _version(row: Mapping[str, Any]) -> str:
    """Return which version of its quantizer a row is of, where that is not today's."""
    version: int = row["quantizer_version"]
    return "" if version == QUANTIZERS[row["quantizer"]].version else f" (version {version})"


def _introduction() -> str:
    return (
        f"Average bits at a loss of at most {LIMIT} points, beside what the paper states. Loss: the full-precision "
        "control's accuracy minus the quantized network's, percentage points of test data, mean over the seeds, after "
        "the same long retraining; [docs/final.md](../../../docs/final.md) says how. Bytes: of the packed file. "
        "Made by `python -m benchmarks.reproduce`; each row's own command, recipe, machine and the losses of its seeds "
        "are in [reproduction.json](../reproduction.json). One control: all seeds are set against one full-precision "
        "network, as results were made until November 2026, and its noise is not in the interval. Every network whose "
        "test accuracy was read is in its folder's `final/test_reads.csv`."
    )


def _said(rows: list[dict[str, Any]]) -> str:
    missing = [name for name in ROWS if name not in {row["row"] for row in rows}]
    return f"Not measured yet: {', '.join(missing)}." if missing else ""


def _choices(chosen: Path) -> list[str]:
    found = {name: content for name in ROWS if (content := _read(chosen / name / "chosen.json"))}
    text = (
        f"The fewest bits that lose at most {LIMIT} - {MARGIN} points on validation after the final recipe; where none "
        "of those retrained does, what loses least. Committed before test data were read."
    )
    lines = [
        [
            f"[{name}]({name}/chosen.json)",
            " ".join(map(str, content["bitwidths"])),
            f"{content['validation_loss']:.2f}"
            + ("" if content["keeps"] else " (more than allowed)")
            + ("" if "controls" in content else " (one control)"),
            " ".join(map(str, content["seeds"])) + (f" ({_listed(content)})" if content.get("more_seeds") else ""),
            _constraints(content["constraints"]),
            f"[{_retrained(chosen / name / 'validated.csv', content)}]({name}/validated.csv)",
        ]
        for name, content in found.items()
    ]
    return [text, table(_CHOSEN_HEADER, lines, aligned=False)]


def _constraints(constraints: Mapping[str, float]) -> str:
    after = {"refined": " after a third of the final retraining"}
    return ", ".join(dict.fromkeys(f"{least:g}{after.get(which, '')}" for which, least in constraints.items()))


def _retrained(path: Path, chosen: Mapping[str, Any]) -> int:
    """Return how many assignments were retrained in full by the recipe of a choice; by any where it is an early one."""
    if "validated" not in chosen:
        return len({row["bitwidths"] for row in read_rows(path)})
    return len(measured(path, chosen["validated"]))


def _listed(chosen: Mapping[str, Any]) -> str:
    return f"at the border {' '.join(map(str, chosen['more_seeds']))}, too"


def _searches(folder: Path, chosen: Path) -> list[str]:
    parts = []
    for name, row in ROWS.items():
        content = _read(chosen / name / "chosen.json")
        if not content:
            continue
        parts.append(f"### {name}")
        if row.table is not None:
            picture = folder / f"{name}-enumeration.png"
            every = AccuracyTable.load(row.table)
            paper = PAPER_ASSIGNMENTS.get(row.task)
            pictures.enumeration(every, content["bitwidths"], paper, picture)
            parts.append(f"![All assignments, and the Pareto front]({picture.name})")
        for run in _runs(chosen / name):
            for kind in ("pareto", "probabilities", "episodes"):
                if (run / f"{kind}.png").exists():
                    parts.append(f"![{kind} of {run.name}]({name}/{run.name}/{kind}.png)")
    return parts
