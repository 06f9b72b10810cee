"""What the report says of a run, ready for the template."""

from collections import Counter
from statistics import stdev
from typing import Any

from releq_env.errors import short
from releq_env.report import verdict
from releq_env.report.run import Row, Run

_SHORT = {"as found, not confirmed": "only as found", "confirmed, not as found": "only confirmed"}  # in a narrow column
_TIMES = " \u00d7 "
_MOST_LEFT_OUT = 20
_MOST_CHIPS = 24  # layers whose bitwidths are shown in large


def content(run: Run) -> dict[str, Any]:
    """Return the values of the template `report.html.j2`."""
    return {
        "title": run.name or _env_name(run),
        "asked": asked(run),
        "answer": answer(run),
        "accuracy": accuracies(run),
        "paid": paid(run),
        "curve": [_point(run, row) for row in run.curve],
        "depends_on": {name: _plain(value) for name, value in run.depends_on.items()},
        "chips": chips(run),
    }


def chips(run: Run) -> list[tuple[int, str]]:
    """Return the answer in large: the bits of each layer with its name, or in a deep network of how many layers."""
    if run.best is None:
        return []
    if len(run.names) <= _MOST_CHIPS:
        return list(zip(run.best.bitwidths, run.names, strict=True))
    return [(bits, f"{count} layer{'s' * (count > 1)}") for bits, count in sorted(Counter(run.best.bitwidths).items())]


def asked(run: Run) -> dict[str, str]:
    """Return what was asked for, line by line."""
    settings, assignments = run.settings, 1
    for of_layer in run.choices:
        assignments *= len(of_layer)
    alike = len(set(run.choices)) == 1
    bits = ", ".join(map(str, run.choices[0])) if alike else "by layer, see below"
    goal = f"at least {100 * run.min_relative_accuracy:g} % of the full-precision accuracy"
    if run.max_cost is not None:
        goal += f", at a cost of at most {run.max_cost:g} of the most expensive assignment's"
    ends = [f"{settings['timesteps']:,} time steps"] if "timesteps" in settings and not run.own else []
    ends += [f"{settings['budget']:,} distinct evaluations"] if settings.get("budget") is not None else []
    ends += [f"{settings['minutes']:g} minutes"] if settings.get("minutes") is not None else []
    lines = {
        "Network": f"{run.name or _env_name(run)}, {len(run.names)} quantizable layers",
        "Bitwidths": f"{bits}: {_count(assignments)} assignments",
        "Goal": f"{goal}; then the cheapest" if run.reward == "constrained" else goal,
        "Cost": run.cost,
        "Objective": run.reward or "a function of the user's",
        "Accuracies": _source(run),
        "Not quantized": "; ".join(f"{name}: {why}" for name, why in list(run.left_out.items())[:_MOST_LEFT_OUT])
        + (f"; and {len(run.left_out) - _MOST_LEFT_OUT} more" if len(run.left_out) > _MOST_LEFT_OUT else "")
        or None,
        "Agent": f"{settings['algo']}, seed {settings['seed']}" if "seed" in settings else settings["algo"],
        "Ends at": " or ".join(ends) or None,
    }
    return {name: line for name, line in lines.items() if line is not None}


def answer(run: Run) -> dict[str, Any] | None:
    """Return the answer: the best assignment, layer by layer, and its sizes; nothing before an evaluation."""
    best = run.best
    if best is None:
        return None
    said, recommended = None, None
    if run.candidates:
        said, recommended = verdict.recommended(run.candidates, run.min_relative_accuracy, run.max_cost)
    elif not run.keeps_max_cost(best):
        said = f"It is above max_cost: nothing that was evaluated so far costs at most {run.max_cost:g}."
    sizes, total = run.layer_bytes(best.bitwidths), sum(run.layer_bytes(best.bitwidths))
    widest = max(map(max, run.choices))
    layers = [
        {
            "name": name,
            "bits": bits,
            "bar": bits / widest,
            "choices": ", ".join(map(str, run.choices[index])),
            **({"weights": run.layers[index].weights, "shape": _shape(run, index)} if run.sized and run.layers else {}),
            **({"bytes": sizes[index], "share": sizes[index] / total} if total else {}),
        }
        for index, (name, bits) in enumerate(zip(run.names, best.bitwidths, strict=True))
    ]
    kept = run.keeps_max_cost(best) and best.relative_accuracy >= run.min_relative_accuracy
    confirmed = next((each for each in run.candidates if each.bitwidths == best.bitwidths), None)
    return {
        "row": best,
        "layers": layers,
        "meets": kept,
        "advice": said,
        "other": recommended if recommended not in (None, best.bitwidths) else None,
        "confirmed": confirmed.confirmed if confirmed else None,
        "uniform": verdict.against_uniform(run.candidates) if run.candidates else None,
        "sizes": _sizes(run, total),
        "bytes": total,
        "alike": len(set(run.choices)) == 1,
    }


def paid(run: Run) -> str:
    """Say what the search has cost."""
    counts, evaluated = run.counts, f"{len(run.rows):,} distinct evaluations"
    if not counts:
        return f"{evaluated} so far." if not run.finished else f"{evaluated}."
    said = f"{counts['episodes']:,} episodes, {evaluated}" if counts["episodes"] else evaluated
    said += (
        f", {counts['retrained']:,} of them retrained in this run"
        if run.quantizer and "table" not in run.depends_on
        else ""
    )
    if "wall_seconds" in counts:
        said += f"; {duration(counts['wall_seconds'])}"
        said += (
            f", of which the agent itself took {duration(counts['agent_seconds'])}" if "agent_seconds" in counts else ""
        )
    return f"{said}."


def duration(seconds: float) -> str:
    """Return a time for people: `"1 h 5 min"`."""
    if seconds < 100.0:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


def accuracies(run: Run) -> list[dict[str, Any]]:
    """Return the compared assignments, a row each: as found, with every unseen seed, their mean and spread."""
    return [
        {
            "bitwidths": each.bitwidths,
            "uniform": each.kind == "uniform",
            "found": each.found,
            "confirmed": each.confirmed,
            "seeds": each.accuracies,
            "spread": stdev(each.accuracies) if len(each.accuracies) > 1 else None,
            "average_bits": run.average_bits(each.bitwidths),
            "bytes": sum(run.layer_bytes(each.bitwidths)),
            "meets": _SHORT.get(met := verdict.meeting(each, run.min_relative_accuracy), met),
        }
        for each in run.candidates
    ]


def _sizes(run: Run, total: int) -> list[dict[str, Any]]:
    """Return the size of the weights at full precision, with 8 bits, and as answered; nothing without a quantizer."""
    if not run.sized or not total:
        return []
    full, int8 = run.float_bytes, sum(run.layer_bytes([8] * len(run.names)))
    rows = (("fp32", full), ("int8", int8), ("this answer", total))
    return [
        {"name": name, "bytes": count, "share": count / max(full, int8, total), "times": full / count}
        for name, count in rows
    ]


def _point(run: Run, row: Row) -> dict[str, Any]:
    kept = run.keeps_max_cost(row) and row.relative_accuracy >= run.min_relative_accuracy
    return {"row": row, "bytes": sum(run.layer_bytes(row.bitwidths)), "meets": kept, "best": row is run.best}


def _source(run: Run) -> str:
    seed = run.depends_on.get("retrain_seed")
    seeded = "" if seed is None else f", retraining seed{'s' * isinstance(seed, list)} {_plain(seed)}"
    if "table" in run.depends_on:
        return f"looked up in a table{seeded if seed is not None else ', mean over seeds'}"
    quantizer = run.quantizer or run.depends_on.get("quantizer")
    if quantizer is None:
        return "returned by a function"
    images = run.depends_on.get("retrain_images")
    how = f"on validation, after a short retraining{f' on {images:,} images' if isinstance(images, int) else ''}"
    return f"{how}, quantizer {_plain(quantizer)}{seeded}"


def _shape(run: Run, index: int) -> str:
    assert run.layers is not None
    layer = run.layers[index]
    return _TIMES.join(map(str, (layer.n, layer.c, *([layer.k] if layer.k else []))))


def _env_name(run: Run) -> str:
    return str(run.settings["env"]).rpartition(":")[2]


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**9 else f"about 10^{len(str(number)) - 1}" if number < 10**4000 else "countless"


def _plain(value: Any) -> str:
    return (
        ", ".join(map(_plain, value)) if isinstance(value, list) else value if isinstance(value, str) else short(value)
    )
