"""Reads what final retraining has found: `final/*/result.json` in the folder of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from releq_env.report import checks
from releq_env.report.run import Final

_MOST = 100  # results that are reported


def read_finals(folder: Path) -> tuple[Final, ...]:
    """Return the results in a folder, by the assignments' names; nothing where there is no folder.

    Raises:
        ReLeQError: In one line, if one is damaged.
    """
    found = []
    for path in sorted(folder.glob("*/result.json"))[:_MOST]:
        with checks.damaged(path):
            found.append(_final(checks.read_json(path)))
    return tuple(found)


def _final(value: Mapping[str, Any]) -> Final:
    seeds = tuple(checks.whole(seed, "a seed") for seed in checks.sequence(value["seeds"], "seeds"))
    accuracies = checks.sequence(value["accuracies"], "accuracies", len(seeds))
    if "control_accuracies" in value:
        of_controls = checks.sequence(value["control_accuracies"], "control_accuracies", len(seeds))
    else:  # results were made until November 2026 against one control for all seeds
        of_controls = [value["control_accuracy"]]
    interval = value["loss_interval"]
    # One a layer, of any bits that a quantizer has: the search may have decided groups, among other choices.
    layers = checks.sequence(value["layers"], "layers")
    bitwidths = checks.sequence(value["bitwidths"], "bitwidths", len(layers))
    if not seeds:
        raise ValueError("it has no seeds")
    return Final(
        bitwidths=tuple(checks.whole(bits, "a bitwidth", 1, 32) for bits in bitwidths),
        measured_on=checks.text(value["measured_on"], "measured_on"),
        seeds=seeds,
        accuracies=tuple(checks.number(each, "an accuracy", 0.0, 1.0) for each in accuracies),
        control=checks.text(value["control"], "control"),
        control_accuracies=tuple(checks.number(each, "a control's accuracy", 0.0, 1.0) for each in of_controls),
        loss=checks.number(value["loss"], "loss", -100.0, 100.0),
        interval=None
        if interval is None
        else tuple(checks.number(each, "loss_interval", -1e6, 1e6) for each in checks.sequence(interval, "loss", 2)),
        file_bytes=checks.whole(value["file_bytes"], "file_bytes", 1),
        full_precision_bytes=checks.whole(value["full_precision_bytes"], "full_precision_bytes", 1),
    )
