"""How long what is missing will take."""

import statistics
import time
from collections.abc import Callable

from benchmarks.vendors.finals import recipe
from benchmarks.vendors.networks import Plan, engine_of
from benchmarks.vendors.registry import OURS
from benchmarks.vendors.rows import Key
from releq_env.devices import cores
from releq_env.finalizing.progress import duration
from releq_env.problem import Problem
from releq_env.retraining.final import FinalRetraining

_TOOL = 60.0  # seconds; what those took that were tried, about


def estimate(problem: Problem, plan: Plan, missing: list[Key], retrained: int) -> str:
    """Return in words how long a network will take here: a few steps are timed, nothing is written.

    Args:
        problem: The network's.
        plan: How much is measured.
        missing: The choices to come; at most as many assignments are retrained.
        retrained: Assignments that are to be retrained already.
    """
    engine = engine_of(problem)
    middle = (4,) * problem.num_layers
    seconds = [_timed(lambda: engine.measure(middle)) for _ in range(2)]
    searches = sum(key.vendor == OURS for key in missing)
    ours = searches * plan.evaluations * min(seconds) / cores()
    tools = (len(missing) - searches) * _TOOL
    final = FinalRetraining(engine, recipe(problem, plan))
    epoch = statistics.median(final.seconds_an_epoch(middle) for _ in range(2))
    most = retrained + len(missing)
    finals = (most + 1) * len(plan.seeds) * plan.epochs * epoch / cores()
    return (
        f"{problem.name}: an evaluation takes {min(seconds):.1f} s, {searches} searches of {plan.evaluations} about "
        f"{duration(ours)}; {len(missing) - searches} choices of other tools, taken for a minute each, "
        f"{duration(tools)}; an epoch of the final retraining {epoch:.1f} s, at most {most} assignments with "
        f"{len(plan.seeds)} seeds of {plan.epochs} epochs over {cores()} processes {duration(finals)}; together "
        f"at most {duration(ours + tools + finals)}"
    )


def _timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
