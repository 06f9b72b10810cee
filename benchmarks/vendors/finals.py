"""The same final retraining of every assignment, as rows."""

import dataclasses
import functools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from torch import nn

from benchmarks.vendors.choosing import place
from benchmarks.vendors.networks import Plan, engine_of, make_problem, test_data
from benchmarks.vendors.rows import Retrained
from releq_env.errors import ReLeQError
from releq_env.export.folder import PACKED
from releq_env.export.formats import FORMATS
from releq_env.export.model import Model
from releq_env.export.packed import read_packed
from releq_env.finalizing import finalize
from releq_env.problem import Problem
from releq_env.tasks.final import FinalRecipe, final_recipe

Job = tuple[str, str, str]
"""Name in `NETWORKS`, digest of the weights, bitwidths."""


def retrained(jobs: Iterable[Job], plan: Plan, folder: Path, processes: int) -> Iterator[Retrained]:
    """Yield the rows of assignments as they are finished; what was stopped goes on.

    Args:
        jobs: The assignments.
        plan: How much is measured.
        folder: Where networks are kept.
        processes: How many are retrained at once; 1: in this process.
    """
    if processes == 1:
        yield from (retrain(job, plan, folder) for job in jobs)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(retrain, job, plan, folder) for job in jobs]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)


def retrain(job: Job, plan: Plan, folder: Path) -> Retrained:
    """Return the row of an assignment; test data are read at the end.

    Raises:
        ReLeQError: If the network is another one than that of which the bitwidths are.
    """
    name, weights, bitwidths = job
    problem = _problem(name, plan)
    if weights_of(problem) != weights:
        raise ReLeQError(f"the trained network {problem.name} has changed meanwhile; start again")
    result = finalize(
        problem,
        [int(bits) for bits in bitwidths.split()],
        seeds=plan.seeds,
        recipe=recipe(problem, plan),
        test_data=test_data(plan),
        folder=folder / f"{problem.name}-{weights}-{plan.images}x{plan.epochs}" / bitwidths.replace(" ", "-"),
        workers=1,  # several are retrained at once
        progress=False,
    )
    return Retrained(
        name,
        weights,
        bitwidths,
        f"{plan.task}, {plan.images:,} training images",
        plan.epochs,
        " ".join(map(str, result.seeds)),
        " ".join(f"{accuracy:.6f}" for accuracy in result.accuracies),
        result.control,
        " ".join(f"{accuracy:.6f}" for accuracy in result.control_accuracies),
        result.file_bytes,
        _onnx_bytes(result.folder / PACKED, engine_of(problem).pretrained.network),
        result.full_precision_bytes,
        place(),
    )


def recipe(problem: Problem, plan: Plan) -> FinalRecipe:
    """Return the recipe of control and quantized networks; both sides have one learning rate."""
    plain = final_recipe(engine_of(problem).task)
    return dataclasses.replace(plain, epochs=plan.epochs, control_rates=(plain.learning_rate,))


def weights_of(problem: Problem) -> str:
    """Return what tells the trained network from others, in short."""
    return engine_of(problem).pretrained.sha256[:12]


@functools.lru_cache(maxsize=1)
def _problem(name: str, plan: Plan) -> Problem:
    return make_problem(name, plan)


def _onnx_bytes(packed: Path, network: nn.Module) -> int:
    file = packed.with_name("network.onnx")
    try:
        restored, content = read_packed(packed, network)
        FORMATS["onnx"].writer()(Model(restored, content, content.about, packed), file)
    except ReLeQError:  # it says which library is missing, or what cannot be exported
        return 0
    return file.stat().st_size
