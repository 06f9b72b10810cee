"""`finalize`: long retraining of an assignment, and of the control beside it."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from releq_env.errors import ReLeQError, check_whole, short
from releq_env.finalizing.job import Job
from releq_env.finalizing.result import FinalResult
from releq_env.finalizing.subject import understood
from releq_env.tasks.final import FinalRecipe

if TYPE_CHECKING:
    from releq_env.problem import Problem
    from releq_env.tasks import Task


def finalize(
    what: "str | os.PathLike[str] | Problem | Task | Any",
    bitwidths: Sequence[int] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    recipe: FinalRecipe | None = None,
    test_data: Any = None,
    test: bool = True,
    folder: str | os.PathLike[str] | None = None,
    controls: str | os.PathLike[str] | None = None,
    teacher: nn.Module | None = None,
    quantizer: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> FinalResult:
    """Retrain an assignment for long, with several seeds, and measure what it loses.

    The loss is the control's top-1 accuracy (or other metric) minus the quantized network's, in percentage points, on
    test data, seed by seed. The control is the better, by mean validation accuracy, of the pre-trained full-precision
    network and of that network retrained by the same recipe and with the same seeds; see
    `releq_env.finalizing.control`. Training uses the training part only, validation chooses, and test data are read at
    the very end. Where there are no test data the loss is on validation, and says so.

    Everything that is finished is on disk at once (see `releq_env.finalizing.folder`). The same call goes on where an
    earlier one was stopped, and at most an epoch is lost. Another seed costs only itself and its controls; since the
    control is chosen over all seeds of a call, it may be another one then.

    Args:
        what: The folder of a run of `agents.train`, what `releq_env.search` returns, a `Problem`, a `Task`, or the
            name of a task.
        bitwidths: One a layer. Default: the best assignment of the run or search.
        seeds: Of the retrainings (order and augmentation); different ones.
        recipe: How. Default: `releq_env.tasks.final.final_recipe` of the task.
        test_data: Of a network of your own, as its training data were given.
        test: Whether to read test data; `False` measures on validation.
        folder: Where everything is kept. Default: `final/BITS` in the run's folder, else
            `runs/final/TASK-QUANTIZER/BITS`.
        controls: Folder that the controls of all tasks are kept in. Default: `controls` in the cache folder; for a
            task whose data or loss cannot be told from others, in `folder`.
        teacher: A full-precision network whose outputs are distilled, of control and quantized networks alike.
            Default: the task's pre-trained one.
        quantizer: With a task only; default `"lsq"`.
        data_root: With a task only; see `releq_env.paths.data_folder`.
        device: With a task only; default `"cpu"`.
        precision: With a task only; default `"auto"`.
        workers: How many processes share the retrainings, of seeds and of their controls, with one thread each.
            Default: one a core where that saves time, on a GPU one. The result does not depend on it. A script
            that calls this does so under `if __name__ == "__main__":`, since other processes import it.
        progress: Whether to show a progress bar.

    Raises:
        ReLeQError: In one line, if something is not accepted, data are missing, or retraining diverges.
    """
    _check_workers(workers)
    subject = understood(
        what, bitwidths, test_data, quantizer=quantizer, data_root=data_root, device=device, precision=precision
    )
    job = Job(subject, _checked_seeds(seeds), recipe, folder, controls, teacher)
    return job.run(test, progress, workers)


def estimate(
    what: "str | os.PathLike[str] | Problem | Task | Any",
    bitwidths: Sequence[int] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    recipe: FinalRecipe | None = None,
    folder: str | os.PathLike[str] | None = None,
    controls: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    **arguments: Any,
) -> str:
    """Return in words how long `finalize` would take here: a few steps are timed, and nothing is written.

    The arguments are those of `finalize`; `test` and `progress` change nothing.

    Raises:
        ReLeQError: As there.
    """
    teacher = arguments.pop("teacher", None)
    for without_meaning in ("test", "progress"):
        arguments.pop(without_meaning, None)
    _check_workers(workers)
    subject = understood(what, bitwidths, **arguments)
    return Job(subject, _checked_seeds(seeds), recipe, folder, controls, teacher).estimate(workers)


def _check_workers(workers: int | None) -> None:
    if workers is not None:
        check_whole("workers", workers, 1, ", or None for one a core")


def _checked_seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds:
        raise ReLeQError(f"seeds={short(seeds)} is not accepted; give at least one, e.g. (0, 1, 2)")
    checked = tuple(check_whole("a seed", seed, 0) for seed in seeds)
    if len(set(checked)) != len(checked):
        raise ReLeQError(f"seeds={short(seeds)} has one twice; give different ones")
    return checked
