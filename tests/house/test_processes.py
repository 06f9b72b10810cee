"""Environments in processes that were forked, the default on Linux, from one that has computed with torch.

A child inherits torch's state but none of its threads: it waits for ever in the first convolution that would use them.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.floors import ROOT

FAST = "{'retrain_images': 64, 'cache': None}"

FRESH = f"""
import gymnasium as gym, numpy as np

venv = gym.make_vec("releq_env:ReLeQ-Digits-v0", 2, "async", {{"context": "fork"}}, **{FAST})
venv.reset(seed=0)
for _ in range(4):
    *_, infos = venv.step(np.array([1, 2]))
venv.close()
env = gym.make("releq_env:ReLeQ-Digits-v0", **{FAST}).unwrapped
print(infos["accuracy"].tolist() == [env.evaluator.evaluate([bits] * 4).accuracy for bits in (2, 3)])
"""

AFTER_USE = f"""
import gymnasium as gym, numpy as np, torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

torch.set_num_threads(4)
images, kernel = torch.randn(64, 16, 32, 32), torch.randn(32, 16, 3, 3, requires_grad=True)
torch.nn.functional.conv2d(images, kernel).sum().backward()
torch.randn(1_000_000).exp().sum()

ID = "releq_env:ReLeQ-Digits-v0"
env = gym.make(ID, **{FAST}).unwrapped
expected = [env.evaluator.evaluate([bits] * 4).accuracy for bits in (2, 3)]
assert torch.get_num_threads() == 4

venv = gym.make_vec(ID, 2, "async", {{"context": "fork"}}, **{FAST})
venv.reset(seed=0)
for _ in range(4):
    *_, infos = venv.step(np.array([1, 2]))
venv.close()
print(infos["accuracy"].tolist() == expected)

venv = make_vec_env(
    ID, 2, seed=0, env_kwargs={FAST}, vec_env_cls=SubprocVecEnv, vec_env_kwargs={{"start_method": "fork"}}
)
venv.reset()
for _ in range(4):
    *_, infos = venv.step(np.array([1, 2]))
venv.close()
print([info["accuracy"] for info in infos] == expected)
"""

SHARED = """
import gymnasium as gym, numpy as np, sys
from releq_env.problem import Problem
from stable_baselines3.common.vec_env import SubprocVecEnv

if __name__ == "__main__":  # its workers import it
    problem = Problem.from_task("digits", retrain_images=64, cache=sys.argv[1], workers=2)
    evaluator = problem.evaluator
    known = evaluator.evaluate_many([[bits] * 4 for bits in (2, 3, 4)])  # its workers run from here on
    venv = SubprocVecEnv([lambda: gym.make("releq_env:ReLeQ-v0", problem=problem)] * 2, start_method="fork")
    for actions in [1, 2], [4, 5]:
        venv.reset()
        for _ in range(4):
            *_, infos = venv.step(np.array(actions))
        expected = [evaluator.evaluate([action + 1] * 4).accuracy for action in actions]
        print([info["accuracy"] for info in infos] == expected)
    venv.close()  # in the children too
    again = evaluator.evaluate_many([[bits] * 4 for bits in (4, 7, 8)])
    print(again[0] == known[-1], evaluator.distinct_evaluations, evaluator.retrained)
    evaluator.close()
"""


def run(folder: Path, code: str, *args: str, seconds: float = 240) -> list[str]:
    """Run a script as users do, from a file; whatever happens, end all of its processes."""
    script = folder / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", script, *args],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "4"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
        assert process.returncode == 0, errors
        return output.splitlines()
    except subprocess.TimeoutExpired:
        pytest.fail(f"it hangs: nothing after {seconds} seconds")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_forked_environments_that_gymnasium_makes(tmp_path: Path) -> None:
    # `make_vec` makes one in the parent first, to see its spaces.
    assert run(tmp_path, FRESH) == ["True"]


@pytest.mark.processes
def test_forked_environments_after_torch_was_used_with_several_threads(tmp_path: Path) -> None:
    assert run(tmp_path, AFTER_USE) == ["True", "True"]


@pytest.mark.slow
def test_forked_environments_of_a_problem_that_has_workers_and_a_cache(tmp_path: Path) -> None:
    # The children measured 5 and 6 bits first: those are found in the file.
    lines = run(tmp_path, SHARED, str(tmp_path / "evaluations.sqlite"))
    assert lines == ["True", "True", "True 7 5"]
