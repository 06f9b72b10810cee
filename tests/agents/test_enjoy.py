"""Playing what was learned, without running what lies in the run's folder."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from agents.enjoy import Options, enjoy, main
from agents.train import main as train
from tests.agents.problems import arguments
from tests.failing import one_line

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a finished run of an agent, made once."""
    folder = tmp_path_factory.mktemp("trained")

    def run(algo: str) -> Path:
        if not (folder / algo).exists():
            settings = ["--algo", algo, "--timesteps", "320", "--log-dir", str(folder / algo)]
            train([*settings, *arguments("bounded")])
        return folder / algo

    return run


failing = partial(one_line, main)


@pytest.mark.parametrize("algo", ["ppo", "recurrent_ppo", "maskable_ppo", "dqn", "ddpg"])
def test_plays_within_max_cost(algo: str, trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    infos = enjoy(Options(trained(algo), episodes=3))
    assert len(infos) == 3
    assert len({tuple(info["bitwidths"].tolist()) for info in infos}) == 1  # the likeliest actions are always the same
    assert all(info["state_of_quantization"] <= 0.4 for info in infos)
    bits = " ".join(map(str, infos[0]["bitwidths"].tolist()))
    assert capsys.readouterr().out.count(bits) >= 3


def test_plays_the_policy_that_was_trained(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("ppo"), run)
    with zipfile.ZipFile(run / "ReLeQ-v0.zip") as saved:
        contents = {name: saved.read(name) for name in saved.namelist()}
    state = torch.load(io.BytesIO(contents["policy.pth"]), weights_only=True)
    state["action_net.weight"].zero_()
    for action in range(4):
        state["action_net.bias"] = torch.eye(4)[action] * 9.0
        torch.save(state, buffer := io.BytesIO())
        contents["policy.pth"] = buffer.getvalue()
        with zipfile.ZipFile(run / "ReLeQ-v0.zip", "w") as changed:
            for name, content in contents.items():
                changed.writestr(name, content)
        first = enjoy(Options(run))[0]["bitwidths"].tolist()[0]
        assert first == min(action + 1, 3)  # four bits in the first layer cannot end within the bound


def test_draws_if_it_is_asked_to(trained: Callable[[str], Path]) -> None:
    infos = [enjoy(Options(trained("ppo"), episodes=20, sample=True)) for _ in range(2)]
    drawn, again = ([tuple(info["bitwidths"].tolist()) for info in each] for each in infos)
    assert len(set(drawn)) > 1
    assert drawn == again


def test_a_searcher_has_no_policy(trained: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("random")
    capsys.readouterr()
    assert enjoy(Options(run)) == []
    lines = capsys.readouterr().out.splitlines()
    assert "no policy" in lines[0]
    assert len(lines) == 2


class Hostile:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("it ran",)


@pytest.mark.parametrize("what", ["pickle", "torch", "text", "nothing", "another policy"])
def test_a_hostile_or_damaged_model_is_refused_in_one_line(
    what: str, trained: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("ppo"), run)
    buffer = io.BytesIO()
    torch.save({"torch": Hostile(), "another policy": {"a": torch.zeros(1)}}.get(what), buffer)
    policy = {"pickle": pickle.dumps(Hostile()), "text": b"no weights"}.get(what, buffer.getvalue())
    with zipfile.ZipFile(run / "ReLeQ-v0.zip", "w") as saved:
        saved.writestr("data", pickle.dumps(Hostile()))
        if what != "nothing":
            saved.writestr("policy.pth", policy)
    assert "holds no policy" in failing(str(run))
    assert "it ran" not in capsys.readouterr().out


def test_mistakes_end_in_one_line(trained: Callable[[str], Path], tmp_path: Path) -> None:
    assert "holds no run" in failing(str(tmp_path))
    assert "--episodes 0" in failing(str(trained("ppo")), "--episodes", "0")
    run = tmp_path / "run"
    shutil.copytree(trained("ppo"), run)
    (run / "ReLeQ-v0.zip").write_bytes(b"")
    assert "holds no policy" in failing(str(run))
    (run / "ReLeQ-v0.zip").unlink()
    assert "is not finished" in failing(str(run))


def test_nothing_of_the_run_is_changed(trained: Callable[[str], Path]) -> None:
    run = trained("ppo")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    enjoy(Options(run))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
