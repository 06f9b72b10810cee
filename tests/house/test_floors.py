"""Imports go one way, and what is not live retraining needs no torch."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.floors import FLOORS, WITHOUT_TORCH, arrows, circle, floor, imported, modules

FUNCTION_EPISODE = """
import sys
sys.modules["torch"] = None  # importing it raises
import gymnasium as gym
import releq_env, releq_env.env
from gymnasium.utils.env_checker import check_env
from releq_env.problem import Problem

problem = Problem.from_function(3, [2, 4, 8], lambda bits: 0.9 + sum(bits) / 1000, full_precision_accuracy=0.95)
env = gym.make("releq_env:ReLeQ-v0", problem=problem)
env.reset(seed=0)
for action in (2, 1, 0):
    *_, reward, terminated, truncated, info = env.step(action)
print(terminated, truncated, info["bitwidths"].tolist(), round(float(info["accuracy"]), 3), reward > 0)

vectors = gym.make_vec("releq_env:ReLeQ-v0", 2, vectorization_mode="vector_entry_point", problem=problem)
vectors.reset()
for action in (2, 1, 0):
    *_, info = vectors.step([action, action])
print(info["accuracy"].tolist(), problem.evaluator.distinct_evaluations)

check_env(env.unwrapped)
for evaluate in "step", "gain":
    for action_mode in "flexible", "restricted":
        made = gym.make("releq_env:ReLeQ-v0", problem=problem, evaluate=evaluate, action_mode=action_mode)
        check_env(made.unwrapped, skip_render_check=True)
print([name for name, module in sys.modules.items() if module and name.split(".")[0] in ("torch", "torchvision")])
"""


def test_every_file_has_a_floor() -> None:
    homeless = [module for module in modules() if not _has_floor(module)]
    assert not homeless, "give them a floor in tests/house/floors.py"


def test_no_floor_is_empty() -> None:
    known = modules()
    missing = {name for names in FLOORS for name in names if name not in known}
    assert missing <= {"examples", "releq_env.tables", "releq_env.testing"}  # these come later


def test_no_arrow_goes_up() -> None:
    up = [
        f"{module} -> {target}"
        for module, targets in arrows().items()
        for target in sorted(targets)
        if floor(target) > floor(module)
    ]
    assert not up


def test_there_is_no_circle() -> None:
    assert circle(arrows()) == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"env": "import releq_env.searchers.base", "searchers/base": ""}, "releq_env.searchers.base"),
        (
            {"env": "def f():\n    from releq_env.searchers import base", "searchers/base": ""},
            "releq_env.searchers.base",
        ),
        ({"env": "from .searchers import base", "searchers/base": ""}, "releq_env.searchers.base"),
        ({"env": "X = 'releq_env.searchers.base:Search'", "searchers/base": ""}, "releq_env.searchers.base"),
        ({"env": "from releq_env import ReLeQError"}, "releq_env"),
        ({"env": "if TYPE_CHECKING:\n    import releq_env.searchers.base", "searchers/base": ""}, None),
        ({"env": "'''See `releq_env.searchers.base`.'''", "searchers/base": ""}, None),
    ],
)
def test_arrows_that_are_seen(tmp_path: Path, files: dict[str, str], found: str | None) -> None:
    for name, text in ({"__init__": "", "searchers/__init__": ""} | files).items():
        path = tmp_path / "releq_env" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    up = {target for target in arrows(tmp_path)["releq_env.env"] if floor(target) > floor("releq_env.env")}
    assert (found in up) if found else not up


def test_circles_that_are_seen() -> None:
    graph: dict[str, set[str]] = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert circle(graph) == []
    assert circle(graph | {"c": {"b"}}) == ["b", "c", "b"]


def test_what_imports_no_torch() -> None:
    graph, needing = arrows(at_import=True), _importing("torch", at_import=True)
    for module in modules():
        if any(f"{module}.".startswith(f"{name}.") for name in WITHOUT_TORCH):
            reached, new = {module}, {module}
            while new := set().union(*(graph[each] for each in new)) - reached:
                reached |= new
            assert not reached & needing, module


def test_what_never_needs_torch() -> None:
    needing = _importing("torch", at_import=False)
    assert not {module for module in needing if floor(module) == 0 or module.startswith("releq_env.searchers")}


def test_a_function_problem_needs_no_torch(python: Callable[..., str]) -> None:
    lines = python(FUNCTION_EPISODE).splitlines()
    assert lines[:2] == ["True False [8, 4, 2] 0.914 False", "[0.914, 0.914] 1"]
    assert lines[-1] == "[]"  # between them is what the checker has drawn


def test_stable_baselines3s_checker_passes_on_a_function_problem(python: Callable[..., str]) -> None:
    code = """
import gymnasium as gym
from stable_baselines3.common.env_checker import check_env
from releq_env.problem import Problem

problem = Problem.from_function(3, [2, 4, 8], lambda bits: 0.9 + sum(bits) / 1000, full_precision_accuracy=0.95)
for evaluate in "episode", "step", "gain":
    for observation in "paper", "history":
        env = gym.make("releq_env:ReLeQ-v0", problem=problem, evaluate=evaluate, observation=observation)
        check_env(env)
        check_env(env.unwrapped)
print("fine")
"""
    assert python(code).strip() == "fine"


def _has_floor(module: str) -> bool:
    try:
        floor(module)
    except KeyError:
        return False
    return True


def _importing(library: str, at_import: bool) -> set[str]:
    """Return the modules that import a library themselves."""
    return {
        module
        for module, path in modules().items()
        if any(name.split(".")[0] == library for name in imported(module, path, at_import))
    }
