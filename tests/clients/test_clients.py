"""The lines of docs/clients.md run, where a library is installed."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import gymnasium
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
SCRIPTS = dict(re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("client", SCRIPTS)
def test_its_lines_run(client: str, python: Callable[..., str]) -> None:
    for library in re.findall(r"^(?:from|import) (\w+)", SCRIPTS[client], re.MULTILINE):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    if "rllib" in SCRIPTS[client] and not gymnasium.__version__.startswith("1.2."):
        pytest.skip("RLlib wants gymnasium 1.2")
    assert python(SCRIPTS[client], OMP_NUM_THREADS="1").strip()


def test_the_scripts_are_there() -> None:
    assert [name.split()[0] for name in SCRIPTS] == ["A", "TorchRL", "Tianshou", "RLlib"]
