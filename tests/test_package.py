import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import releq_env
from releq_env.errors import ReLeQError, check_choice
from tests.conftest import ROOT


def test_a_bare_import_is_light(python: Callable[..., str]) -> None:
    code = """
import sys, releq_env, gymnasium
heavy = "torch", "torchvision", "sklearn", "scipy", "PIL", "stable_baselines3"
print([name for name in heavy if name in sys.modules])
print(gymnasium.spec("ReLeQ-Digits-v0").id, dir(releq_env) == sorted(releq_env.__all__))
"""
    assert python(code).splitlines() == ["[]", "ReLeQ-Digits-v0 True"]


def test_making_an_environment_leaves_torchvision_alone(python: Callable[..., str]) -> None:
    # A torchvision that does not match its torch must not keep anybody from Digits.
    code = """
import sys
sys.modules["torchvision"] = None  # importing it raises
import gymnasium
env = gymnasium.make("releq_env:ReLeQ-Digits-v0", retrain_images=0, cache=None)
env.reset()
for _ in range(4):
    *_, info = env.step(7)
print(info["relative_accuracy"] > 0.9)
"""
    assert python(code).strip() == "True"


@pytest.mark.parametrize("name", releq_env.__all__)
def test_public_names(name: str) -> None:
    assert getattr(releq_env, name) is not None
    assert name in dir(releq_env)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Typo'"):
        releq_env.Typo  # noqa: B018


def test_the_version_to_cite_is_the_packages() -> None:
    assert f"\nversion: {releq_env.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_errors_name_what_was_given_and_what_is_accepted() -> None:
    check_choice("colour", "red", ("red", "blue"))
    with pytest.raises(ReLeQError) as raised:
        check_choice("colour", "a\nb", ("red", "blue"))
    assert str(raised.value) == r"unknown colour 'a\nb'; choose one of: red, blue"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout so that no build folder is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "runs")
    shutil.copytree(ROOT, folder / "checkout", ignore=leave)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder / "checkout"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.mark.processes
def test_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"releq_env", f"releq_env-{releq_env.__version__}.dist-info"}
    assert "releq_env/py.typed" in names
    in_checkout = {path.relative_to(ROOT).as_posix() for path in (ROOT / "releq_env" / "tasks" / "weights").iterdir()}
    packed = {name for name in names if name.startswith("releq_env/tasks/weights/")}
    assert packed >= {name for name in in_checkout if name.endswith((".json", ".safetensors"))}
    assert "releq_env/tasks/weights/digits.safetensors" in packed
    assert not [name for name in packed if not name.endswith((".json", ".safetensors"))]
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "releq_env").rglob("*.py")}
    assert modules <= set(names)


@pytest.mark.processes
def test_wheel_works_on_its_own(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    code = """
import gymnasium, releq_env
env = gymnasium.make("releq_env:ReLeQ-Digits-v0", retrain_images=32)
env.reset(seed=0)
for _ in range(4):
    *_, terminated, truncated, info = env.step(1)
print(releq_env.__file__)
print(terminated, 0 < info["accuracy"] <= 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    location, result = done.stdout.splitlines()
    assert Path(location).is_relative_to(tmp_path / "site")
    assert result == "True True"


def test_the_floors_that_are_tested_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["agents"]]
    floors = {name: version for name, _, version in (each.partition(">=") for each in stated) if version}
    lines = (ROOT / "tests" / "floors.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: tested[name].removesuffix(".0") for name in floors} == floors
