"""Retrain an assignment for long and say what it loses: the end of a search.

python -m agents.finalize runs/mnist --seeds 0,1,2
python -m agents.finalize --task mnist --bits 2,2,3,2
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.run.option import optional
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError, check_choice


@dataclass
class Options:
    """Retrain an assignment for long, with several seeds, and measure its loss against full precision.

    Started again it goes on where it was stopped.
    """

    run_dir: Annotated[Path | None, tyro.conf.Positional, optional("RUN_DIR", "none; then --task and --bits")] = None
    """Folder of a run of agents.train: its best assignment is taken."""
    task: Annotated[str | None, optional("NAME", "the run's")] = None
    """A built-in task, in place of a run."""
    bits: Annotated[str | None, optional("B,B,...", "the run's best")] = None
    """The assignment, one bitwidth a layer."""
    seeds: Annotated[str, tyro.conf.arg(metavar="S,S,...")] = "0,1,2"
    """Seeds of the retrainings."""
    quantizer: Annotated[str | None, optional("NAME", "lsq")] = None
    """With --task: the quantizer."""
    recipe: Annotated[list[str], optional("NAME=VALUE", "releq_env/tasks/final.py")] = field(default_factory=list)
    """Values of the recipe, e.g. epochs=60 distillation=0.7."""
    validation_only: bool = False
    """Read no test data: for choosing between assignments."""
    output: Annotated[Path | None, optional("DIR", "RUN_DIR/final/BITS, or runs/final/TASK-QUANTIZER/BITS")] = None
    """Folder of the result."""
    controls: Annotated[Path | None, optional("DIR", "in the cache folder")] = None
    """Folder of the full-precision controls, which all assignments of a task share."""
    data_root: Annotated[Path | None, optional("DIR", "RELEQ_DATA")] = None
    """With --task: folder of the data."""
    device: Annotated[str | None, optional("NAME", "cpu")] = None
    """With --task: the device."""
    precision: Annotated[str | None, optional("{auto,fp32,bf16}", "auto")] = None
    """With --task: type of activations and products while training."""
    workers: Annotated[int | None, optional("N", "one a core, where that saves time")] = None
    """How many processes share the retrainings."""
    dry_run: bool = False
    """Only say how long it would take."""


def finalize(options: Options) -> None:
    """Finalize and print the result; the same as the command does.

    Raises:
        ReLeQError: In one line, if an option is not accepted, or data are missing.
    """
    what, arguments = _arguments(options)
    # Imported only now: the help needs no torch.
    from releq_env.finalizing import api

    if options.dry_run:
        print(api.estimate(what, workers=options.workers, **arguments))
    else:
        print(api.finalize(what, test=not options.validation_only, workers=options.workers, **arguments))


def _arguments(options: Options) -> tuple[Any, dict[str, Any]]:
    if (options.run_dir is None) == (options.task is None):
        raise ReLeQError("give the folder of a run, or --task and --bits")
    if options.task is not None and options.bits is None:
        raise ReLeQError(f"--task {options.task} needs --bits, e.g. --bits 2,2,3,2")
    arguments: dict[str, Any] = {
        "bitwidths": None if options.bits is None else _numbers("--bits", options.bits),
        "seeds": _numbers("--seeds", options.seeds),
        "folder": options.output,
        "controls": options.controls,
        **{name: getattr(options, name) for name in ("quantizer", "data_root", "device", "precision")},
    }
    if options.task is not None:
        from releq_env.tasks import TASKS

        check_choice("task", options.task, TASKS)
    what = options.task if options.run_dir is None else options.run_dir
    if options.recipe:
        arguments["recipe"] = _recipe(what, arguments, options.recipe)
    return what, arguments


def _recipe(what: Any, arguments: dict[str, Any], pairs: list[str]) -> Any:
    """Return the task's recipe with some values changed."""
    from agents.run.settings import parse_pairs
    from releq_env.finalizing.subject import understood
    from releq_env.tasks.final import FIELDS, final_recipe

    changes = parse_pairs(pairs, "--recipe", "epochs=60 distillation=0.7")
    for name in changes:
        check_choice("value of the recipe", name, FIELDS)
    given = {name: arguments[name] for name in ("bitwidths", "quantizer", "data_root", "device", "precision")}
    return replace(final_recipe(understood(what, **given).engine.task), **changes)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ReLeQError(f"{option} {text} is not accepted; give whole numbers, e.g. {option} 2,2,3,2") from None


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, retrain, and print the result."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.finalize", description=Options.__doc__)
    with ends_in_one_line("stopped; the same command goes on from here"):
        finalize(options)


if __name__ == "__main__":
    main()
