"""The example of an agent of one's own: both forms are short, keep their contract, and are run like any other."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.algorithms.registry import ALGORITHMS
from agents.train import main
from releq_env import Problem
from releq_env.searchers import SEARCHERS, Searcher
from releq_env.testing import EnvAgentContract, SearcherContract
from tests.agents.commands import rows
from tests.agents.problems import arguments


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    importlib.reload(importlib.import_module("examples.own_agent"))
    yield
    SEARCHERS.pop("two_layers", None)
    ALGORITHMS.maps[0].pop("bandit", None)


def example() -> Any:
    return importlib.import_module("examples.own_agent")


class TestItsSearcher(SearcherContract):
    repeats, is_complete = True, False

    def make(self, problem: Problem, seed: int) -> Searcher:
        return example().TwoLayers(problem, seed)


class TestItsEnvAgent(EnvAgentContract):
    def make(self, venv: Any, seed: int) -> Any:
        return example().Bandit(venv, seed)


@pytest.mark.parametrize("algo", ["two_layers", "bandit"])
def test_it_is_run_like_any_other(algo: str, tmp_path: Path) -> None:
    settings = ["--algo", algo, "--budget", "12", "--n-envs", "4", "--log-dir", str(tmp_path / "run")]
    main([*settings, *arguments("four_layers")])
    assert len(rows(tmp_path / "run")) == 12


def test_each_form_is_short() -> None:
    tree = ast.parse(Path(str(example().__file__)).read_text())
    lengths = [node.end_lineno - node.lineno + 1 for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(lengths) == 2
    assert max(lengths) < 30
