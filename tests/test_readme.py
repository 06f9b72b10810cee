"""What the README prints runs, but for a shorter search."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from releq_env.registration import ENVIRONMENTS

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_stable_baselines3_script_runs(python: Callable[..., str]) -> None:
    script = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert script is not None
    assert "gym.make" in script[1]
    assert ".learn(1000)" in script[1]
    printed = python(script[1].replace(".learn(1000)", ".learn(64)"), OMP_NUM_THREADS="1")
    assert re.search(r"\(\d, \d, \d, \d\) ", printed)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_every_id_is_in_the_table(env_id: str) -> None:
    assert f"`{env_id}`" in README


def test_pictures_and_links_are_there() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
