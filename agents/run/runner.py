"""A run from beginning to end: problem, agent, confirmation, report."""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from agents.algorithms.registry import Agent, find_agent, import_all
from agents.report.files import explained, write, write_json
from agents.report.plots import draw
from agents.report.summary import summarize
from agents.run.confirmation import confirm
from agents.run.folder import Config, RunFolder
from agents.run.making import make_agent, make_env
from agents.run.progress import RunProgress, Stopwatch
from agents.run.settings import Options, Settings, new_settings, resumed_settings
from releq_env import ReLeQEnv, ReLeQError
from releq_env.evaluation import BudgetExhausted, Evaluation
from releq_env.report.about import about
from releq_env.searchers.folder import known, versions
from releq_env.searchers.rows import described
from releq_env.workers.waiting import Assignment

_LIBRARIES = ("stable_baselines3", "sb3_contrib", "torchvision")
_UNTRAINED = (
    "the agent has not begun to learn: what it asked for was drawn at random; give more --timesteps or --budget, or "
    "other --hyperparams (learning_starts, n_steps)"
)
_UNNAMED = (
    "loss, metric or quantizer have no name (cache_key=) to compare with those of the earlier part: they are taken to "
    "be the same"
)


def run(options: Options) -> RunFolder:
    """Run a search from beginning to end, or the rest of one, and print the result.

    An agent does the same again if it is told the same again. So a run is resumed by repeating it, with what
    was recorded for nothing.

    Raises:
        ReLeQError: If an option is not accepted, or a file of the run cannot be written.
    """
    earlier = None if options.resume is None else RunFolder.read_config(options.resume)
    if earlier is not None:
        import_all(earlier.settings.imports or options.imports)
    settings = new_settings(options) if earlier is None else resumed_settings(options, earlier.settings)
    agent = find_agent(settings.algo)
    path = options.resume or options.log_dir
    if path is not None and earlier is None:
        RunFolder.check_new(path)
    env = make_env(settings, **({} if options.workers is None else {"workers": options.workers}))
    problem = env.unwrapped.problem
    try:
        _check_length(settings, agent, env.unwrapped)
        fingerprint, of_it = json.loads(json.dumps([problem.evaluator.fingerprint, known(problem)]))
        config = Config(settings, fingerprint, of_it, described(problem))
        if earlier is not None:
            _check_unchanged(path, "accuracies depended on", config.fingerprint, earlier.fingerprint)
            _check_unchanged(path, "accuracies depended on", config.known, earlier.known)
            _check_unchanged(path, "problem had", config.problem, earlier.problem)
        retraining = getattr(problem.evaluator.source, "retraining", None)
        if retraining is not None:
            retraining.load()  # where data are missing, no folder is made
        elsewhere = Stopwatch()
        learner = make_agent(settings, agent, env, elsewhere)
        path = path or _claimed_folder(settings)  # only now: mistakes leave no folder
        with RunFolder.held(path):
            folder, report = RunFolder(path, problem), path / "report.md"
            if earlier is None:
                RunFolder.check_new(path)  # again: another process may have been quicker
            else:
                problem.evaluator.remember(_restored(folder, options.budget), problem.evaluator.fingerprint)
                if settings == earlier.settings and report.exists() and (path / "report.json").exists():
                    print(f"{path} holds a finished run\n\n{report.read_text()}")
                    return folder
                if config.known is not None:
                    print(_UNNAMED, file=sys.stderr)
            for stale in (path / "report.json", report):  # as long as there is the first, there is the second
                stale.unlink(missing_ok=True)
            RunFolder.write_config(path, config, versions(*_LIBRARIES), about(problem))
            return _search(settings, learner, folder, env.unwrapped, elsewhere)
    except KeyboardInterrupt:
        if path is not None and (path / "config.json").exists():
            print(f"\nstopped; go on with: python -m agents.train --resume {path}", file=sys.stderr)
        raise
    finally:
        env.close()


def _search(settings: Settings, learner: Any, folder: RunFolder, env: ReLeQEnv, elsewhere: Stopwatch) -> RunFolder:
    problem, evaluator = env.problem, env.evaluator
    evaluator.listener, evaluator.budget = folder, settings.budget
    resumed = bool(folder.rows)
    if folder.best is not None:
        folder.write_best(len(folder.rows))  # a kill may have come between the row and the best

    def redraw(candidates: Any = ()) -> None:
        if folder.best is not None:
            draw(folder.path, problem, folder.rows, candidates, env.action_mode)

    print(f"{settings.algo} on {settings.env}; results in {folder.path}", flush=True)
    of_agent = getattr(learner, "about", {})
    if of_agent:
        print(f"before the first evaluation: {json.dumps(of_agent)}", flush=True)
    progress = RunProgress(folder, evaluator, settings, settings.n_envs, problem.num_layers, redraw=elsewhere(redraw))
    begun = time.monotonic()
    try:
        learner.learn(settings.timesteps, progress)
    except BudgetExhausted:
        pass
    except KeyboardInterrupt:
        redraw()
        raise
    finally:
        wall, part, others = folder.elapsed, time.monotonic() - begun, elsewhere.seconds
        ended_by = progress.ended_by
        progress.close()
    if folder.best is None:
        raise ReLeQError(f"no assignment was evaluated within {settings.timesteps} time steps; give more --timesteps")
    if not getattr(learner, "has_learned", True):
        print(_UNTRAINED, file=sys.stderr)
    if hasattr(learner, "save"):
        model = folder.path / f"{settings.env_name}.zip"
        with explained(model):
            learner.save(model)
    evaluator.listener = evaluator.budget = None
    recommended = _recommended(learner, folder)
    candidates = confirm(folder, problem, recommended)
    redraw(candidates)
    counts = {
        "episodes": progress.episodes,
        "distinct_evaluations": len(folder.rows),
        "retrained": sum(row["retrained"] for row in folder.rows),
        "resumed": resumed,
        "ended_by": ended_by,
        "wall_seconds": round(wall, 2),
        "part_seconds": round(part, 2),
        "agent_seconds": round(part - others, 2),
        "evaluation_seconds": round(others, 2),  # with stepping environments, and drawing
    }
    confirmed = candidates[0].confirmed
    folder.write_best(
        len(folder.rows),
        confirmed_accuracy=None if confirmed is None else confirmed.accuracy,
        confirmed_relative_accuracy=None if confirmed is None else confirmed.relative_accuracy,
        **({} if recommended is None else {"recommended": recommended}),
    )
    text = summarize(problem, candidates, counts)
    write(folder.path / "report.md", text + "\n")
    rows = [candidate.as_dict(problem) for candidate in candidates]
    write_json(folder.path / "report.json", {"counts": counts, "agent": of_agent, "candidates": rows})
    print("\n" + text)
    return folder


def _restored(folder: RunFolder, budget: int | None) -> list[Evaluation]:
    """Return what an earlier part of the run has recorded; refuse a budget that would end it before, untrained."""
    found = folder.restore()
    if budget is not None and budget < len(found):
        raise ReLeQError(
            f"--budget {budget} is less than the {len(found)} distinct evaluations that the run in {folder.path} has; "
            "give more, or leave it out"
        )
    return found


def _recommended(learner: Any, folder: RunFolder) -> Assignment | None:
    """Return what an agent recommends, where it does.

    Raises:
        ReLeQError: If that was not evaluated.
    """
    given = learner.recommend() if hasattr(learner, "recommend") else None
    if given is None:
        return None
    recommended = tuple(map(int, given))
    if recommended not in {row["bitwidths"] for row in folder.rows}:
        raise ReLeQError(f"the agent recommends {recommended}, which was not evaluated; let it recommend one that was")
    return recommended


def _check_unchanged(path: Path | None, what: str, now: Any, then: Any) -> None:
    now, then = now or {}, then or {}
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed:
        raise ReLeQError(f"the run in {path} cannot go on: its {what} another {', '.join(changed)}; begin a new run")


def _check_length(settings: Settings, agent: Agent, env: ReLeQEnv) -> None:
    least = env.problem.num_layers if agent.searches else env.episode_steps * settings.n_envs
    if settings.timesteps >= least:
        return
    if agent.searches:
        raise ReLeQError(
            f"--timesteps {settings.timesteps} asks for no assignment: one counts a time step a layer; "
            f"give at least {least}"
        )
    raise ReLeQError(
        f"--timesteps {settings.timesteps} finishes no episode: one takes {env.episode_steps} "
        f"and {settings.n_envs} run side by side; give at least {least}, or fewer --n-envs"
    )


def _claimed_folder(settings: Settings) -> Path:
    """Make and return the next folder that no other run has."""
    for number in itertools.count(1):
        path = Path("runs") / settings.algo / f"{settings.env_name}_{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ReLeQError(
                f"log folder {path} cannot be made ({error.strerror}); give another one with --log-dir"
            ) from error
        return path
    raise AssertionError("numbers do not end")
