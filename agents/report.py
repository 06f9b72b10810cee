"""The table at the end of a run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agents.run_folder import RunFolder, spaced
from releq_env import ReLeQEnv
from releq_env.cost import average_bits, weighted_bits
from releq_env.files import replace_file
from releq_env.layer_info import LayerInfo

_SCALE_BYTES = 4


def size_in_bytes(layers: Sequence[LayerInfo], bitwidths: Sequence[int]) -> int:
    """Return the size of the quantized weights: their packed codes and one float32 scale a channel."""
    return sum(
        -(-layer.weights * bits // 8) + _SCALE_BYTES * layer.n for layer, bits in zip(layers, bitwidths, strict=True)
    )


def report(folder: RunFolder, env: ReLeQEnv, candidates: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> str:
    """Return the result as Markdown, and write `report.md`, `report.json` and `best.json`.

    Args:
        folder: The run's folder.
        env: Any environment of the run.
        candidates: As `agents.confirmation.confirm` returns them.
        counts: `episodes`, `distinct_evaluations` and `retrained`.
    """
    found = [candidate for candidate in candidates if candidate["kind"] == "found"]
    best = found[0]
    bitwidths = best["bitwidths"]
    full = 4 * sum(layer.weights for layer in env.layers)
    int8 = size_in_bytes(env.layers, [8] * len(env.layers))
    size = size_in_bytes(env.layers, bitwidths)
    text = "\n\n".join(
        [
            f"# Best assignment: {spaced(bitwidths)}",
            _advice(env, found),
            _table(
                ("layer", "bits", "weights"),
                [(layer.name, bits, f"{layer.weights:,}") for layer, bits in zip(env.layers, bitwidths, strict=True)],
            ),
            f"{average_bits(bitwidths):.2f} bits a layer, {weighted_bits(bitwidths, env.layers):.2f} bits a weight. "
            f"Weights {size:,} bytes: {full / size:.1f} times smaller than fp32 ({full:,}), "
            f"{int8 / size:.1f} times smaller than int8 ({int8:,}).",
            f"Validation accuracy, relative to full precision; the constraint is {env.min_relative_accuracy:.4f}. "
            "Found: with the search's retraining seed. Confirmed: the mean of two unseen seeds.",
            _table(
                ("assignment", "bits a layer", "bits a weight", "bytes", "found", "confirmed", "meets the constraint"),
                [_row(env, candidate) for candidate in candidates],
            ),
            _verdict(env, candidates),
            f"{counts['episodes']} episodes, {counts['distinct_evaluations']} distinct evaluations, "
            f"{counts['retrained']} of them retrained in this run.",
        ]
    )
    replace_file(folder.path / "report.md", text + "\n")
    replace_file(folder.path / "report.json", json.dumps({"counts": counts, "candidates": candidates}, indent=2) + "\n")
    folder.write_best(
        counts["distinct_evaluations"],
        confirmed_accuracy=best["confirmed_accuracy"],
        confirmed_relative_accuracy=best["confirmed_relative_accuracy"],
    )
    return text


def _advice(env: ReLeQEnv, found: Sequence[Mapping[str, Any]]) -> str:
    """Say which assignment to use: the best one as found may have been lucky."""
    confirmed = [c for c in found if c["confirmed_relative_accuracy"] >= env.min_relative_accuracy]
    if not confirmed:
        return f"None of the {len(found)} best meets the constraint with unseen seeds: search on, or allow more bits."
    best = max(confirmed, key=lambda c: (c["confirmed_reward"], c["confirmed_accuracy"]))
    if best is found[0]:
        return "It meets the constraint with unseen retraining seeds, too."
    return (
        f"With unseen retraining seeds it does less well; the best of those below is then {spaced(best['bitwidths'])}."
    )


def _row(env: ReLeQEnv, candidate: Mapping[str, Any]) -> tuple[str, ...]:
    bitwidths = candidate["bitwidths"]
    as_found = candidate["relative_accuracy"] >= env.min_relative_accuracy
    confirmed = candidate["confirmed_relative_accuracy"] >= env.min_relative_accuracy
    return (
        f"{spaced(bitwidths)}{' (uniform)' if candidate['kind'] == 'uniform' else ''}",
        f"{average_bits(bitwidths):.2f}",
        f"{weighted_bits(bitwidths, env.layers):.2f}",
        f"{size_in_bytes(env.layers, bitwidths):,}",
        f"{candidate['accuracy']:.4f} ({candidate['relative_accuracy']:.4f})",
        f"{candidate['confirmed_accuracy']:.4f} ({candidate['confirmed_relative_accuracy']:.4f})",
        {
            (True, True): "yes",
            (True, False): "as found, not confirmed",
            (False, True): "confirmed, not as found",
            (False, False): "no",
        }[as_found, confirmed],
    )


def _verdict(env: ReLeQEnv, candidates: Sequence[Mapping[str, Any]]) -> str:
    """Say plainly how the search compares with the best uniform assignment."""
    sentences = []
    for key, which in (("reward", "As found"), ("confirmed_reward", "As confirmed")):
        found = max((c for c in candidates if c["kind"] == "found"), key=lambda c: c[key])
        uniform = max((c for c in candidates if c["kind"] == "uniform"), key=lambda c: c[key])
        names = (
            f"{spaced(found['bitwidths'])} ({found[key]:.4f})",
            f"{spaced(uniform['bitwidths'])} ({uniform[key]:.4f})",
        )
        if found["bitwidths"] == uniform["bitwidths"]:
            verdict = f"the search's best is a uniform assignment, {names[0]}: it does not beat uniform"
        elif found[key] > uniform[key]:
            verdict = f"the search's best objective, {names[0]}, beats the best uniform one, {names[1]}"
        else:
            verdict = f"the search's best objective, {names[0]}, does not beat the best uniform one, {names[1]}"
        sentences.append(f"{which}, {verdict}.")
    return " ".join(sentences)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
