"""What is computed does not depend on what surrounds it, and leaves it as it was."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from releq_env.arithmetic import pinned_arithmetic, seeded


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.is_autocast_cache_enabled(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.backends.mkldnn.enabled,
        (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32),
        torch.get_default_device().type,
    )


PINNED = (1, True, False, False, False, True, torch.float32, "highest", True, (False, True, False), "cpu")


@contextlib.contextmanager
def changed(name: str) -> Iterator[None]:
    """One setting that is not the usual one."""
    setters: dict[str, tuple[Callable[[Any], object], Any, Any]] = {
        "threads": (torch.set_num_threads, 2, torch.get_num_threads()),
        "default dtype": (torch.set_default_dtype, torch.float64, torch.float32),
        "float32 precision": (torch.set_float32_matmul_precision, "medium", "highest"),
        "cuDNN": (partial(setattr, torch.backends.cudnn, "benchmark"), True, False),
        "device": (torch.set_default_device, "meta", None),
        "oneDNN": (partial(setattr, torch.backends.mkldnn, "enabled"), False, True),
    }
    contexts = {
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
        "autocast without its cache": torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
    }
    if name in contexts:
        with contexts[name]:
            yield
        return
    change, value, usual = setters[name]
    change(value)
    try:
        yield
    finally:
        change(usual)


CHANGES = [
    "threads",
    "default dtype",
    "float32 precision",
    "oneDNN",
    "no_grad",
    "inference_mode",
    "autocast",
    "autocast without its cache",
]


def trained() -> tuple[list[torch.Tensor], torch.dtype]:
    """Weights after a few steps under the autocast of a retraining."""
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 10))
        images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(images)
        nn.functional.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in network.parameters()], (images @ images.mT).dtype


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_numbers_whatever_is_set_outside(change: str) -> None:
    expected, _ = trained()
    with changed(change):
        before = settings()
        with pinned_arithmetic():
            assert settings() == PINNED
            weights, dtype = trained()
            assert not any(weight.is_inference() for weight in weights)
        assert settings() == before
    assert dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))


def test_autocast_outside_goes_on_as_it_was() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            with pinned_arithmetic():
                assert (weight @ weight).dtype == torch.float32
            assert (weight @ weight).dtype == torch.bfloat16
        assert (weight @ weight).dtype == torch.bfloat16
    assert (weight @ weight).dtype == torch.float32
    with torch.no_grad():
        weight.zero_()
    with torch.autocast("cpu", torch.bfloat16):  # nothing of the first value is left
        assert not (weight @ weight).any()


def test_settings_come_back_after_an_error_and_inside_one_another() -> None:
    with changed("float32 precision"), changed("threads"):
        before = settings()
        with pytest.raises(KeyError), pinned_arithmetic():
            with pinned_arithmetic():
                assert settings() == PINNED
            assert settings() == PINNED
            raise KeyError
        assert settings() == before


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "conv"), reason="this torch has one precision for all")
def test_precisions_of_single_libraries() -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        with pinned_arithmetic():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.conv.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


def test_threads_take_turns() -> None:
    """Another thread computes with the pinned settings, and only when this one is done; the caller's come back."""
    begun, seen = threading.Event(), []

    def other() -> None:
        begun.set()
        with pinned_arithmetic():
            seen.append((settings(), left))

    left = False
    with changed("float32 precision"), changed("default dtype"):
        before, threads = settings(), torch.get_num_threads()
        thread = threading.Thread(target=other)
        with pinned_arithmetic():
            thread.start()
            assert begun.wait(10)
            thread.join(0.2)  # it cannot end yet
            assert seen == []
            left = True
        thread.join(10)
        assert seen == [(PINNED, True)]
        assert settings() == before
        assert torch.get_num_threads() == threads


def test_seeded_repeats_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
    with pytest.raises(KeyError), seeded(3):
        assert torch.equal(torch.rand(4), first)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


IN_A_FORK = """
import os, signal, sys, time
import torch
from releq_env.quantization import quantizable_layers
from releq_env.tasks import TASKS, load_pretrained

torch.set_num_threads(2)
task = TASKS["cifar10"]
network, images = task.network(), torch.zeros(5000, 3, 32, 32, dtype=torch.uint8)
network(torch.randn(64, 3, 32, 32)).sum().backward()  # with several threads
child = os.fork()
if child == 0:
    {call}
    os._exit(0)
done, deadline = 0, time.monotonic() + 60
try:
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    print(status if done else "hangs")
finally:
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(
    "call",
    [
        "quantizable_layers(network, task.dataset.input_shape)",
        "task.dataset.normalize(images)",
        "load_pretrained(task).identity",
    ],
)
def test_a_child_forked_after_its_parent_used_several_threads_does_not_hang(
    call: str, python: Callable[..., str]
) -> None:
    assert python(IN_A_FORK.format(call=call)).split() == ["0"]


def test_it_is_pinned_inside_seeded_too() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with seeded(0):
            with pinned_arithmetic(), pinned_arithmetic():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
