"""Reads the folder of a run. Files may be damaged, or made to do harm: all that is taken from them is checked."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from releq_env.choices import Choices
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.report import checks
from releq_env.report.finals import read_finals
from releq_env.report.run import Compared, Episodes, Probabilities, Row, Run, View

_MOST_LAYERS = 10_000
_COUNTS = ("n", "c", "k", "weights", "macs", "scales")
_SECONDS = ("wall_seconds", "part_seconds", "agent_seconds")
_WHOLE_SETTINGS = {"timesteps": 1, "schedule_timesteps": 1, "seed": 0, "n_envs": 1, "written_for": 1}


def read_run(folder: Path) -> Run:
    """Return what the folder of a run says, whether it was finished or not.

    Raises:
        ReLeQError: In one line, if there is no run in it, or a file of it is damaged.
    """
    config = folder / "config.json"
    if not config.exists():
        raise ReLeQError(f"{folder} holds no run: it has no config.json; give the --log-dir of a run")
    with checks.damaged(config):
        asked = _asked(checks.read_json(config))
    read: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("rows", "evaluations.csv", partial(_rows, choices=asked["choices"])),
        ("report", "report.json", partial(_report, choices=asked["choices"])),
        ("episodes", "0.monitor.csv", read_episodes),
        (
            "probabilities",
            "probabilities.csv",
            partial(read_probabilities, choices=asked["choices"], restricted=_restricted(asked["settings"])),
        ),
    ]
    if asked["own"]:
        read.append(("ended", "best.json", _ended))
    found: dict[str, Any] = {"rows": (), "report": {}}
    for name, file, reader in read:
        path = folder / file
        if path.exists():
            with checks.damaged(path):
                found[name] = reader(path)
    finals = read_finals(folder / "final")
    return Run(folder.resolve().name, **asked, **found.pop("report"), **found, finals=finals)


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = checks.mapping(config["settings"], "settings")
    for name in ("algo", "env"):
        checks.text(settings[name], name)
    for name, least in _WHOLE_SETTINGS.items():
        checks.whole(settings.get(name, least), name, least)
    if settings.get("budget") is not None:
        checks.whole(settings["budget"], "budget", 1)
    if settings.get("minutes") is not None:
        checks.number(settings["minutes"], "minutes")
    for name in ("env_kwargs", "hyperparams"):
        _plain(checks.mapping(settings.get(name) or {}, name), name)
    problem = checks.mapping(config["problem"], "problem")
    names = tuple(checks.text(name, "a layer's name") for name in checks.sequence(problem["layers"], "layers"))
    if not 1 <= len(names) <= _MOST_LAYERS:
        raise ValueError(f"it has {len(names)} layers, not 1 to {_MOST_LAYERS}")
    choices = tuple(
        tuple(checks.whole(bits, "a choice", 1, 32) for bits in checks.sequence(of_layer, "choices"))
        for of_layer in checks.sequence(problem["choices"], "choices", len(names))
    )
    if not all(choices):
        raise ValueError("a layer has no choices")
    costs = tuple(
        tuple(checks.number(cost, "a cost") for cost in checks.sequence(of_layer, "costs"))
        for of_layer in checks.sequence(problem["costs"], "costs", len(names))
    )
    if any(len(of_layer) < len(known) for of_layer, known in zip(costs, choices, strict=True)):
        raise ValueError("a layer has fewer costs than choices")
    if sum(map(max, costs)) == 0.0:
        raise ValueError("nothing costs anything")
    reward, max_cost = problem["reward"], problem["max_cost"]
    depends_on = checks.mapping(config.get("accuracy_depends_on") or {}, "accuracy_depends_on")
    versions = checks.mapping(config.get("versions") or {}, "versions")
    return {
        "settings": settings,
        "names": names,
        "choices": choices,
        "costs": costs,
        "full_precision_accuracy": _share(problem["full_precision_accuracy"], "full_precision_accuracy"),
        "min_relative_accuracy": _share(problem["min_relative_accuracy"], "min_relative_accuracy"),
        "max_cost": None if max_cost is None else _share(max_cost, "max_cost"),
        "reward": None if reward is None else checks.text(reward, "reward"),
        "depends_on": _plain(depends_on, "accuracy_depends_on"),
        "versions": {checks.text(name, "a version"): checks.text(value, name) for name, value in versions.items()},
        "own": "own" in config,
        "left_out": _left_out(config.get("own")),
        **_about(config.get("about"), names),
    }


def _left_out(own: Any) -> Mapping[str, str]:
    """Read what of a user's own network is not quantized, and why."""
    left_out = checks.mapping((checks.mapping(own, "own") if own is not None else {}).get("left_out") or {}, "left_out")
    return {checks.text(name, "left_out"): checks.text(reason, "left_out") for name, reason in left_out.items()}


def _about(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Read what a run says of the network, if it does; see `releq_env.report.about`."""
    if value is None:
        return {}
    about = checks.mapping(value, "about")
    layers = [_layer(checks.mapping(each, "a layer")) for each in checks.sequence(about["layers"], "layers")]
    if tuple(layer.name for layer in layers) != names:
        raise ValueError("about describes other layers than problem")
    texts = {name: about[name] for name in ("name", "quantizer", "cost")}
    return {name: None if each is None else checks.text(each, name) for name, each in texts.items()} | {
        "layers": tuple(layers)
    }


def _layer(value: Mapping[str, Any]) -> LayerInfo:
    counts: dict[str, Any] = {name: checks.whole(value[name], name) for name in _COUNTS}
    members = checks.sequence(value.get("members") or [], "members")
    parts = checks.sequence(value.get("parts") or [], "parts")
    return LayerInfo(
        name=checks.text(value["name"], "a layer's name"),
        std=checks.number(value["std"], "std"),
        rows=checks.whole(value.get("rows", 0), "rows"),
        members=tuple(checks.text(each, "a member") for each in members),
        parts=tuple(_layer(checks.mapping(each, "a part")) for each in parts),
        **counts,
    )


def _rows(path: Path, choices: Choices) -> tuple[Row, ...]:
    return tuple(_row(row, choices) for row in checks.read_table(path, (each.name for each in fields(Row))))


def _row(row: Mapping[str, str], choices: Choices) -> Row:
    bits = list(map(int, row["bitwidths"].split()))
    most = max(map(max, choices))
    return Row(
        bitwidths=checks.bitwidths(bits, choices, "bitwidths"),
        accuracy=checks.number(float(row["accuracy"]), "accuracy", 0.0, 1.0),
        relative_accuracy=checks.number(float(row["relative_accuracy"]), "relative_accuracy"),
        reward=_reward(float(row["reward"])),
        state_of_quantization=_share(float(row["state_of_quantization"]), "state_of_quantization"),
        average_bits=checks.number(float(row["average_bits"]), "average_bits", 0.0, most),
        weighted_bits=checks.number(float(row["weighted_bits"]), "weighted_bits", 0.0, most),
        retrained=bool(checks.whole(int(row["retrained"]), "retrained", 0, 1)),
        seconds=checks.number(float(row["seconds"]), "seconds"),
        elapsed=checks.number(float(row["elapsed"]), "elapsed"),
    )


def _reward(value: float) -> float:
    """A user's function may give what is no number."""
    return value if math.isnan(value) else checks.number(value, "reward", -math.inf, math.inf)


def _share(value: Any, what: str) -> float:
    found = checks.number(value, what, 0.0, 1.0 + 1e-9)
    if found == 0.0:
        raise ValueError(f"{what} is 0")
    return found


_ENDS = ("budget", "minutes", "timesteps", "agent")


def _report(path: Path, choices: Choices) -> dict[str, Any]:
    report = checks.read_json(path)
    counts = checks.mapping(report["counts"], "counts")
    whole: dict[str, float] = {
        name: checks.whole(counts[name], name) for name in ("episodes", "distinct_evaluations", "retrained")
    }
    candidates = checks.sequence(report["candidates"], "candidates")
    return {
        "counts": whole | {name: checks.number(counts[name], name) for name in _SECONDS if name in counts},
        "ended_by": counts["ended_by"] if counts.get("ended_by") in _ENDS else None,
        "candidates": tuple(_compared(checks.mapping(each, "a candidate"), choices) for each in candidates),
    }


def _compared(value: Mapping[str, Any], choices: Choices) -> Compared:
    if value["kind"] not in ("found", "uniform"):
        raise ValueError("a candidate is neither found nor uniform")
    accuracies = [_accuracy(each, "confirmed") for each in checks.sequence(value.get("confirmed") or [], "confirmed")]
    return Compared(
        kind=value["kind"],
        bitwidths=checks.bitwidths(value["bitwidths"], choices, "bitwidths"),
        keeps_max_cost=checks.flag(value["keeps_max_cost"], "keeps_max_cost"),
        found=_view(value, ""),
        accuracies=tuple(accuracies),
        confirmed=_view(value, "confirmed_") if accuracies else None,
    )


def _view(value: Mapping[str, Any], prefix: str) -> View:
    return View(
        _accuracy(value[f"{prefix}accuracy"], "accuracy"),
        checks.number(value[f"{prefix}relative_accuracy"], "relative_accuracy"),
        checks.known_number(value[f"{prefix}reward"], "reward"),
    )


def _accuracy(value: Any, what: str) -> float:
    return checks.number(value, what, 0.0, 1.0)


def _ended(path: Path) -> bool:
    return checks.flag(checks.read_json(path).get("finished", False), "finished")


def read_episodes(path: Path) -> Episodes | None:
    """Return what `0.monitor.csv` says; nothing before the first episode."""
    columns = ("r", "state_of_quantization", "relative_accuracy")
    rows = [row for row in checks.read_table(path, columns, header_lines=1) if math.isfinite(float(row["r"]))]
    if not rows:
        return None
    return Episodes(
        [checks.number(float(row["r"]), "r", -1e15) for row in rows],
        [_share(float(row["state_of_quantization"]), "state_of_quantization") for row in rows],
        [checks.number(float(row["relative_accuracy"]), "relative_accuracy") for row in rows],
    )


def _restricted(settings: Mapping[str, Any]) -> bool:
    return bool((settings.get("env_kwargs") or {}).get("action_mode") == "restricted")


def read_probabilities(path: Path, choices: Choices, restricted: bool) -> Probabilities | None:
    """Return what `probabilities.csv` says; nothing before the first note.

    Args:
        path: The file.
        choices: The bitwidths of each layer.
        restricted: Whether the actions are down, keep and up.
    """
    columns = [f"p{action}" for action in range(3 if restricted else max(map(len, choices)))]
    rows, num_layers = checks.read_table(path, ("episode", "layer", *columns)), len(choices)
    episodes: list[list[int]] = [[] for _ in range(num_layers)]
    values: list[list[list[float]]] = [[] for _ in range(num_layers)]
    for row in rows:
        layer = checks.whole(int(row["layer"]), "layer", 0, num_layers - 1)
        episodes[layer].append(checks.whole(int(row["episode"]), "episode"))
        values[layer].append([checks.number(float(row[column]), column, 0.0, 1.0) for column in columns])
    return Probabilities(episodes, values) if all(episodes) else None


def _plain(value: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return JSON whose texts can be written and whose numbers are numbers."""
    pending: list[Any] = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += [*each, *each.values()]
        elif isinstance(each, list):
            pending += each
        elif isinstance(each, str):
            checks.text(each, what)
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValueError(f"{what} holds {each}, which is no number")
    return value
