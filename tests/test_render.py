from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest


def test_ansi_shows_layers_bits_and_position(make: Callable[..., Any]) -> None:
    env = make(render_mode="ansi")
    env.reset()
    env.step(0)
    env.step(3)
    lines = env.render().splitlines()
    assert [line.lstrip("> ").split()[:2] for line in lines[:4]] == [
        ["conv1", "1"],
        ["conv2", "4"],
        ["fc1", "8"],
        ["fc2", "8"],
    ]
    assert [line.startswith(">") for line in lines[:4]] == [False, False, True, False]
    assert "average bits 5.25" in lines[4]
    assert "not measured" in lines[4]


def test_ansi_shows_the_accuracy_once_measured(make: Callable[..., Any]) -> None:
    env = make(render_mode="ansi")
    env.reset()
    for _ in range(4):
        *_, info = env.step(1)
    assert f"{info['accuracy']:.4f}" in env.render()


def test_rgb_array_changes_with_the_assignment(make: Callable[..., Any]) -> None:
    env = make(render_mode="rgb_array")
    env.reset()
    before = env.render()
    assert before.dtype == np.uint8
    assert before.ndim == 3
    assert before.shape[2] == 3
    env.step(0)
    after = env.render()
    assert after.shape == before.shape
    assert (after != before).any()
    assert after.flags.writeable


def test_human_prints_after_every_step(make: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    env = make(render_mode="human")
    env.reset()
    assert "conv1" in capsys.readouterr().out
    env.step(0)
    assert "> conv2" in capsys.readouterr().out
    assert env.render() is None
    assert capsys.readouterr().out == ""  # that state is printed already


def test_human_mode_prints_each_state_once(make: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make("ReLeQ-v0", problem=make().problem, render_mode="human")
    env.reset()
    for action in range(4):
        env.render()
        env.step(action)
    env.render()
    assert capsys.readouterr().out.count("average bits") == 5


def test_without_a_mode_it_warns_and_returns_nothing(make: Callable[..., Any]) -> None:
    env = make()
    env.reset()
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
