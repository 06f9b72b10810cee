"""Writes the report of a run: one HTML file that needs nothing else, no network and no scripts."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.report import pictures, verdict
from releq_env.report.command import commands
from releq_env.report.content import content, duration
from releq_env.report.reading import read_run
from releq_env.report.run import Run

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a run, finished or not, and return its file.

    Args:
        folder: The run's folder.
        path: The file. Default: `report.html` in the folder.

    Raises:
        ReLeQError: In one line, if there is no run in the folder, a file of it is damaged, or it cannot be written.
    """
    run = read_run(Path(folder))
    target = Path(folder) / "report.html" if path is None else Path(path)
    text = render("report.html.j2", run=run, commands=commands(run), pictures=_pictures(run), **content(run))
    try:
        replace_file(target, text)
    except OSError as error:
        raise ReLeQError(
            f"{target} cannot be written ({os.strerror(error.errno or 0)}); give another file with --out"
        ) from error
    return target


def render(template: str, folder: Path | None = None, **values: Any) -> str:
    """Return a page. All values are escaped but those that are `markupsafe.Markup`.

    Pages in the same style begin with `{% extends "base.html.j2" %}`.

    Args:
        template: Name of the template.
        folder: Where it is, if it is not one of the report's own.
        **values: What it shows.

    Raises:
        ReLeQError: If jinja2 is missing.
    """
    return _environment(folder).get_template(template).render(**values)


def _environment(folder: Path | None) -> "Environment":
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ReLeQError(f'the report needs {error.name}; pip install "releq_env[agents]"') from error
    folders = [TEMPLATES] if folder is None else [folder, TEMPLATES]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {"spaced": verdict.spaced, "bytes": size, "duration": duration}
    filters |= {"percent": _percent, "thousands": _thousands, "fixed": _fixed}
    environment.filters |= filters
    return environment


def _percent(share: float, digits: int = 2) -> str:
    return f"{100.0 * share:.{digits}f}\u00a0%"  # not broken before the sign


def _thousands(count: int) -> str:
    return f"{count:,}"


def _fixed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}"


def size(count: int) -> str:
    """Return a number of bytes for people: `"9.8 kB"`."""
    if count < 1000:
        return f"{count} bytes"
    amount, units = count / 1000.0, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.5 and (larger := next(units, None)):
        amount, unit = amount / 1000.0, larger
    return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:,.0f} {unit}"


def _pictures(run: Run) -> list[dict[str, "str | Markup"]]:
    """Return the pictures with what is said below them; nothing where matplotlib is missing."""
    drawn: list[tuple[str, str, str, Callable[[], Figure]]] = []
    if run.best is not None:
        drawn += [
            (
                "tradeoff",
                "Cost against accuracy",
                "Every dot is an evaluated assignment; the line is the best answer for every cost.",
                lambda: pictures.tradeoff(run),
            ),
            (
                "progress",
                "Best so far",
                "Reward of the best assignment after each distinct evaluation.",
                lambda: pictures.progress(run),
            ),
        ]
    found, policy = run.episodes, run.probabilities
    if found is not None:
        said = "Reward, cost and relative accuracy at the end of every episode."
        drawn.append(("episodes", "Episodes", said, lambda: pictures.episodes(found)))
    if policy is not None:
        said = "How likely the policy gives each layer each bitwidth."
        drawn.append(("policy", "The policy", said, lambda: pictures.policy(run, policy)))
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from releq_env.report.svg import inline_svg  # only now: it needs what jinja2 needs

    return [
        {"title": title, "caption": said, "svg": inline_svg(draw(), name, f"{title}. {said}")}
        for name, title, said, draw in drawn
    ]
