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

from benchmarks.measuring import Measure, Options
from releq_env.evaluation import CachedEvaluator, Evaluation, EvaluationCache, RetrainingEvaluator
from releq_env.evaluation.cache import evaluation_key
from releq_env.tasks import TASKS, load_pretrained

_ENV = "releq_env:ReLeQ-MNIST-v0"
_ENVS = 64
_LOOKUPS = 2000
_STEPS = 10_000
_VECTOR_STEPS = 500
_ALL = tuple(itertools.product(range(1, 9), repeat=4))


class DictionaryEvaluator:
    """An `Evaluator` that knows every assignment of LeNet."""

    def __init__(self) -> None:
        self._known = {bits: Evaluation(bits, sum(bits) / 32, sum(bits) / 32, 0.0) for bits in _ALL}

    @property
    def distinct_evaluations(self) -> int:
        """All of them."""
        return len(self._known)

    @property
    def retrained(self) -> int:
        """None of them."""
        return 0

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        """Look an assignment up."""
        return self._known[tuple(bitwidths)]

    def evaluate_many(self, assignments: Sequence[Sequence[int]]) -> list[Evaluation]:
        """Look several up."""
        return [self._known[tuple(bitwidths)] for bitwidths in assignments]

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def lookups(options: Options) -> Iterator[Measure]:
    """Row g: seconds a cached evaluation (from memory, from the file), environment steps a second."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        live = RetrainingEvaluator(TASKS["mnist"], load_pretrained(TASKS["mnist"]))
        cache = EvaluationCache(Path(folder) / "evaluations.sqlite")
        stack.callback(cache.close)
        for bits in _ALL[:_LOOKUPS]:
            cache.put(evaluation_key(live.fingerprint, bits), bits, 0.9, 1.0)
        made = gym.make(_ENV, evaluator=DictionaryEvaluator())
        stack.callback(made.close)
        vector = _vector()
        stack.callback(vector.close)
        options.notes["g/vector"] = f"{_ENVS} environments in {type(vector.unwrapped).__name__}"

        def measure(_: int) -> dict[str, float]:
            evaluator = CachedEvaluator(live, cache)  # has nothing in memory yet
            return {
                "g/file": _seconds_each(evaluator.evaluate, _ALL[:_LOOKUPS]),
                "g/memory": _seconds_each(evaluator.evaluate, _ALL[:_LOOKUPS]),
                "g/env": steps_per_second(made.unwrapped),
                "g/env as made": steps_per_second(made),
                "g/vector": vector_steps_per_second(vector),
            }

        yield measure


def steps_per_second(env: gym.Env[Any, Any], steps: int = _STEPS) -> float:
    """Return the steps a second of an environment, its resets included."""
    actions = np.random.default_rng(0).integers(0, 8, steps).tolist()
    env.reset(seed=0)
    start = time.perf_counter()
    for action in actions:
        if env.step(action)[2]:
            env.reset()
    return steps / (time.perf_counter() - start)


def vector_steps_per_second(env: gym.vector.VectorEnv[Any, Any, Any], steps: int = _VECTOR_STEPS) -> float:
    """Return the steps a second of all environments together, those that only reset included."""
    actions = np.random.default_rng(0).integers(0, 8, (steps, env.num_envs))
    env.reset(seed=0)
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps * env.num_envs / (time.perf_counter() - start)


def _vector() -> gym.vector.VectorEnv[Any, Any, Any]:
    """Return the package's own vector environment if there is one, else Gymnasium's loop over single ones."""
    import releq_env  # noqa: F401  # registers

    own = gym.spec(_ENV.partition(":")[2]).vector_entry_point is not None
    mode = "vector_entry_point" if own else "sync"
    return gym.make_vec(_ENV, num_envs=_ENVS, vectorization_mode=mode, evaluator=DictionaryEvaluator())


def _seconds_each(evaluate: Callable[[Sequence[int]], object], assignments: Sequence[tuple[int, ...]]) -> float:
    start = time.perf_counter()
    for bits in assignments:
        evaluate(bits)
    return (time.perf_counter() - start) / len(assignments)
