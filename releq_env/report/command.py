"""The commands that make a run again."""

import json
import re
import shlex
from typing import Any

from releq_env.report.run import Run

_WIDTH = 72
_PLAIN = re.compile(r"[A-Za-z_]([\w.:/-]*\w)?", re.ASCII)
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n"}  # which YAML reads as something else


def commands(run: Run) -> list[str]:
    """Return the commands that make a run again, in order; lines that are continued end in a backslash."""
    settings = run.settings
    if run.own:
        return [_search(run)]
    first, last = settings.get("schedule_timesteps", settings["timesteps"]), settings["timesteps"]
    options = [f"--{name} {shlex.quote(str(settings[name]))}" for name in ("algo", "env")]
    options.append(f"--timesteps {first}")
    ends = [f"--{name} {settings[name]}" for name in ("budget", "minutes") if settings.get(name) is not None]
    options += ends
    options += [f"--seed {settings['seed']}"] if "seed" in settings else []
    options += [f"--n-envs {settings['n_envs']}"] if "n_envs" in settings else []
    hyperparams = dict(settings.get("hyperparams") or {})
    if "written_for" in settings:
        hyperparams["n_envs"] = settings["written_for"]
    for option, values in (("--env-kwargs", settings.get("env_kwargs") or {}), ("--hyperparams", hyperparams)):
        pairs = [shlex.quote(f"{name}={_yaml(value)}") for name, value in values.items()]
        options += _wrapped([option, *pairs]) if pairs else []
    made = ["python -m agents.train " + " \\\n    ".join(options)]
    if first != last:
        made.append(" ".join([f"python -m agents.train --resume RUN_DIR --timesteps {last}", *ends]))
    return made


def _search(run: Run) -> str:
    """Return the call of a search that was begun from Python, as far as its files know it."""
    settings = run.settings
    given = {"budget": settings.get("budget"), "method": settings["algo"], "cost": run.cost, "max_cost": run.max_cost}
    given |= {"min_relative_accuracy": run.min_relative_accuracy, "seed": settings.get("seed")}
    given |= {"batch": settings.get("n_envs")}
    words = [f"{name}={json.dumps(value)}," for name, value in given.items() if value is not None]
    lines = _wrapped(["the_same_network, the_same_data, ...,", *words])
    return "releq_env.search(\n    " + "\n".join(lines).replace("\n    ", "\n").replace("\n", "\n    ") + "\n)"


def _wrapped(words: list[str]) -> list[str]:
    """Return words as lines of a width that can be read."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return lines


def _yaml(value: Any) -> str:
    """Return a value of JSON as YAML on one line; the two differ in numbers such as 1e-05, a text in YAML 1.1."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(name)}: {_yaml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float):
        mantissa, exponent, power = repr(value).partition("e")
        return mantissa + (".0" if exponent and "." not in mantissa else "") + exponent + power
    return json.dumps(value, ensure_ascii=False)  # YAML reads no surrogate pairs
