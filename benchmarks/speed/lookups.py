"""Row g: what is left when nothing is retrained: cached evaluations and steps of the environment."""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.speed.measuring import Measure, Note, Options, Reading, values
from benchmarks.speed.table import Line, plain
from releq_env import Problem
from releq_env.evaluation import EvaluationCache, Evaluator
from releq_env.evaluation.cache import Keys
from releq_env.evaluation.live import live_source

LETTER = "g"
LOOKUPS = 2000
STEPS = 10_000
VECTOR_STEPS = 500
_ENV = "releq_env:ReLeQ-v0"
_ENVS = 64
_BITWIDTHS = range(1, 9)
_ALL = tuple(itertools.product(_BITWIDTHS, repeat=4))


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds a cached evaluation (from memory, from the file), environment steps a second."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        live = live_source("mnist")
        cache = EvaluationCache(Path(folder) / "evaluations.sqlite")
        stack.callback(cache.close)
        assert live.fingerprint is not None
        keys = Keys(live.fingerprint)
        for bits in _ALL[:LOOKUPS]:
            cache.put(keys(bits), bits, 0.9, 1.0)
        problem = Problem.from_function(len(live.layers), _BITWIDTHS, _accuracy, layers=live.layers)
        problem.evaluator.evaluate_many(_ALL)  # everything is remembered from now on
        made = gym.make(_ENV, problem=problem)
        stack.callback(made.close)
        vector = gym.make_vec(_ENV, _ENVS, vectorization_mode="vector_entry_point", problem=problem)
        stack.callback(vector.close)
        options.notes.append(Note("g", "vector", f"{_ENVS} environments in {type(vector.unwrapped).__name__}"))

        def measure(_: int) -> list[Reading]:
            evaluator = Evaluator(live, cache)  # has nothing in memory yet
            return [
                Reading("g", "file", "s", _seconds_each(evaluator.evaluate, _ALL[:LOOKUPS])),
                Reading("g", "memory", "s", _seconds_each(evaluator.evaluate, _ALL[:LOOKUPS])),
                Reading("g", "env", "steps/s", steps_per_second(made.unwrapped, STEPS)),
                Reading("g", "env as made", "steps/s", steps_per_second(made, STEPS)),
                Reading("g", "vector", "steps/s", vector_steps_per_second(vector, VECTOR_STEPS)),
            ]

        yield measure


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Judge each number by itself."""
    found = []
    for where in ("memory", "file"):
        if seconds := values(readings, "g", where):
            milliseconds = [1000 * value for value in seconds]
            found.append(plain("g", f"cached evaluation, from the {where}, ms", milliseconds, "<= 0.2"))
    for side, what, wanted in (
        ("env", "env steps a second, everything remembered, unwrapped", ">= 20,000"),
        ("env as made", "the same through gym.make's wrappers and checker", ""),
        ("vector", f"{_ENVS} vector environments, steps a second", ">= 200,000"),
    ):
        if rates := values(readings, "g", side, unit="steps/s"):
            found.append(plain("g", what, rates, wanted))
    return found


def steps_per_second(env: gym.Env[Any, Any], steps: int) -> float:
    """Return the steps a second of an environment, its resets included."""
    actions = np.random.default_rng(0).integers(0, len(_BITWIDTHS), steps).tolist()
    env.reset(seed=0)
    start = time.perf_counter()
    for action in actions:
        if env.step(action)[2]:
            env.reset()
    return steps / (time.perf_counter() - start)


def vector_steps_per_second(env: gym.vector.VectorEnv[Any, Any, Any], steps: int) -> float:
    """Return the steps a second of all environments together, those that only reset included."""
    actions = np.random.default_rng(0).integers(0, len(_BITWIDTHS), (steps, env.num_envs))
    env.reset(seed=0)
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps * env.num_envs / (time.perf_counter() - start)


def _accuracy(bitwidths: tuple[int, ...]) -> float:
    return sum(bitwidths) / 32


def _seconds_each(evaluate: Callable[[Sequence[int]], object], assignments: Sequence[tuple[int, ...]]) -> float:
    start = time.perf_counter()
    for bits in assignments:
        evaluate(bits)
    return (time.perf_counter() - start) / len(assignments)
