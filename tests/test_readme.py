"""What the README prints runs, but for a shorter search."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from releq_env.registration import ENVIRONMENTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


SCRIPTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_a_script_runs(script: str, python: Callable[..., str]) -> None:
    printed = python(script.replace(".learn(1000)", ".learn(64)"), OMP_NUM_THREADS="1")
    episode = "array([2, 3, 4, 5])" in printed and f" {printed_reward()}" in printed  # of the first one
    assert episode or re.search(r"^\[\d \d \d \d\] ", printed, re.MULTILINE) or "print" not in script


def printed_reward() -> str:
    """What README says the first episode prints as its reward."""
    found = re.search(r"\| `reward` \| `([\d.]+)` \|", README)
    assert found is not None
    return found.group(1)


def test_the_scripts_are_there() -> None:
    assert ["PPO(" in script for script in SCRIPTS] == [False, True, True, False]


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_every_id_is_in_the_table(env_id: str) -> None:
    assert f"`{env_id}`" in README


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_and_links_are_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#\s]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), target
