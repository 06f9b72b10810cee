"""A problem out of what an environment is given: a problem, the name of one, a task, a table, or a network."""

import pkgutil
from typing import TYPE_CHECKING, Any, TypeGuard

from releq_env.errors import ReLeQError, UnknownArgumentError, check_names, short
from releq_env.problem import Problem

if TYPE_CHECKING:
    from releq_env.tasks import Task

_TASK_ARGUMENTS = tuple(Problem.from_task.__kwdefaults__ or {})
_NETWORK_ARGUMENTS = ("model", "train_data", "validation_data", *(Problem.from_network.__kwdefaults__ or {}))
_TABLE_ARGUMENTS = tuple(Problem.from_table.__kwdefaults__ or {})


def make_problem(problem: "Problem | Task | str | None", **arguments: Any) -> Problem:
    """Return a problem as it can be given to an environment.

    Args:
        problem: A problem, `"module:function"` that returns one, a task or the name of one.
        **arguments: Of `Problem.from_task`, with `table=` of `Problem.from_table`, or with `model=` of
            `Problem.from_network`; none beside a problem. `own_table`: of a registered id, which `table=` or a
            problem replaces.

    Raises:
        ReLeQError: In one line, if something is not accepted.
    """
    if "own_table" in arguments:
        table = arguments.pop("own_table")
        if problem is None:
            arguments.setdefault("table", table)
        elif not isinstance(problem, Problem) and ":" not in str(problem):
            given = short(problem)
            raise ReLeQError(f"problem={given} is a task, and this id is over a table; give table=, or another id")
    if problem is None and "table" in arguments:
        table = arguments.pop("table")
        check_names(arguments, _TABLE_ARGUMENTS, "an environment over a table")
        return Problem.from_table(table, **arguments)
    if problem is None and "model" in arguments:
        check_names(arguments, _NETWORK_ARGUMENTS, "an environment of a network")
        if missing := [name for name in _NETWORK_ARGUMENTS[:3] if name not in arguments]:
            raise ReLeQError(f"{missing[0]}= is missing; give model=, train_data= and validation_data=")
        return Problem.from_network(**arguments)
    if problem is None:
        raise ReLeQError(
            "problem= is missing; give a releq_env.Problem, or module:function that returns one; or a network with "
            "model=, train_data= and validation_data="
        )
    if isinstance(problem, str) and ":" in problem:
        problem = _named(problem)
    if not isinstance(problem, Problem):
        check_names(arguments, _TASK_ARGUMENTS, "the environment")
        return Problem.from_task(problem, **arguments)
    known = ("table", *_TASK_ARGUMENTS, *_NETWORK_ARGUMENTS, *_TABLE_ARGUMENTS)
    if unknown := sorted(set(arguments) - set(known)):
        raise UnknownArgumentError(f"the environment got an unexpected keyword argument {unknown[0]!r}; leave it out")
    if arguments:
        raise ReLeQError(
            f"{next(iter(arguments))}= was given beside a problem, which has its own; "
            f"give problem.replace({next(iter(arguments))}=...), or make the problem with it"
        )
    return problem


def _named(path: str) -> "Problem | Task":
    """Return what `"module:function"` returns, or names."""
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ReLeQError(f"problem={path!r} cannot be found ({error}); give module:function") from error
    made = found() if callable(found) else found
    if not isinstance(made, Problem) and not _is_task(made):
        raise ReLeQError(f"problem={path!r} gave {made!r}; return a releq_env.Problem, or a releq_env.tasks.Task")
    return made


def _is_task(found: Any) -> "TypeGuard[Task]":
    from releq_env.tasks import Task  # only now: it needs torch

    return isinstance(found, Task)
