"""An accuracy is the same whatever torch is set to around it, and making an environment changes nothing around it."""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

ID = "releq_env:ReLeQ-Digits-v0"
ACTIONS = (2, 0, 1, 3)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def without_mkldnn() -> Iterator[None]:
    setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010  # a property of the module
    try:
        yield
    finally:
        setattr(torch.backends.mkldnn, "enabled", True)  # noqa: B010


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default_dtype": lambda: default_dtype(torch.float64),
    "matmul_precision": lambda: matmul_precision("medium"),
    "without_mkldnn": without_mkldnn,
}


def episode(precision: str, made: contextlib.AbstractContextManager[Any], stepped: Any) -> tuple[float, float]:
    """Return reward and accuracy of an episode of an environment made in one context and stepped in another."""
    with made:
        env = gym.make(ID, retrain_images=256, cache=None, precision=precision, workers=1)
    env.reset(seed=0)
    with stepped:
        for action in ACTIONS:
            *_, reward, _, _, info = env.step(action)
    env.close()
    return float(reward), float(info["accuracy"])


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[float, float]]:
    return {
        precision: episode(precision, contextlib.nullcontext(), contextlib.nullcontext())
        for precision in ("fp32", "bf16")
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_step_in_another_mode_of_torch(expected: dict[str, Any], name: str, precision: str) -> None:
    around = SURROUNDINGS[name]
    assert episode(precision, contextlib.nullcontext(), around()) == expected[precision]


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_making_it_in_another_mode_of_torch(expected: dict[str, Any], name: str) -> None:
    around = SURROUNDINGS[name]
    assert episode("bf16", around(), contextlib.nullcontext()) == expected["bf16"]
    assert episode("fp32", around(), around()) == expected["fp32"]


def test_torchs_settings_are_as_they_were_before() -> None:
    def settings() -> list[object]:
        return [
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        ]

    before = settings()
    episode("fp32", contextlib.nullcontext(), contextlib.nullcontext())
    assert settings() == before
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), matmul_precision("medium"):
        before = settings()
        episode("fp32", contextlib.nullcontext(), contextlib.nullcontext())
        assert settings() == before


def test_global_generators_stay_where_they_are() -> None:
    np.random.seed(0)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    episode("bf16", contextlib.nullcontext(), contextlib.nullcontext())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(now, before) for now, before in zip(np.random.get_state(), states[2], strict=True))
