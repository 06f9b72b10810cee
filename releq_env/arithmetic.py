"""One arithmetic for everything that is measured, whatever the process around it has set."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def pinned_arithmetic() -> Iterator[None]:
    """Compute in the same way whoever calls, and leave the caller's settings as they were.

    Inside there is one thread; gradients are recorded, and no inference mode or autocast of the
    caller's reaches in; new numbers are float32 and on the CPU, float32 products are not rounded to fewer
    digits, and oneDNN is on. So an accuracy depends on none of them. One thread also because small networks
    gain little from a second one, several evaluations at once gain more from the cores, and a child
    that was forked after its parent computed with several threads would wait for them for ever.

    Can be entered again inside. Most of these settings are the process's: threads take turns. Not to be held
    across a `yield`.
    """
    with _turns.taken(), contextlib.ExitStack() as restore:
        if not _turns.pinned:
            _turns.pinned = True
            _turns.restore = restore
            restore.callback(setattr, _turns, "pinned", False)
            _pin(restore)
        with _outside_autocast(), torch.inference_mode(False), torch.enable_grad():
            yield


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator of the CPU start from a seed, and go on afterwards where it was.

    Threads that seed it take turns; one that draws without, meanwhile, disturbs it.
    """
    with _turns.taken():
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed(), which seeds those of GPUs, too
        try:
            yield
        finally:
            torch.set_rng_state(state)


@contextlib.contextmanager
def _outside_autocast() -> Iterator[None]:
    """Leave the autocast contexts of this thread, and come back to them.

    Switching autocast off is not enough: what it keeps of parameters is thrown away only where the
    outermost context ends, and would outlive training steps that change the parameters.
    """
    enabled = {device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda")}
    keeps = torch.is_autocast_cache_enabled()
    depth = torch.autocast_increment_nesting()
    for _ in range(depth):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for device in enabled:
        torch.set_autocast_enabled(device, False)
    torch.set_autocast_cache_enabled(True)
    try:
        yield
    finally:
        for _ in range(depth - 1):
            torch.autocast_increment_nesting()
        for device, value in enabled.items():
            torch.set_autocast_enabled(device, value)
        torch.set_autocast_cache_enabled(keeps)


class _Turns:
    """Whose turn it is to compute. A forked child begins with none, and with the settings as they were."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.depth = 0
        self.pinned = False  # the settings are those of `pinned_arithmetic`
        self._thread = 0  # that has the turn, if depth is above 0
        self.restore = contextlib.ExitStack()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        with self._lock:
            self.depth += 1
            self._thread = threading.get_ident()
            try:
                yield
            finally:
                self.depth -= 1

    def _after_fork(self) -> None:
        if self.depth and self._thread == threading.get_ident():
            return  # the thread that forked has the turn, and goes on inside
        if self.depth:  # a thread has it that is not there any more
            self.restore.close()
        self.depth = 0
        self._lock = threading.RLock()


def _pin(restore: contextlib.ExitStack) -> None:
    restore.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(1)
    restore.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)
    restore.callback(setattr, torch.backends.mkldnn, "enabled", torch.backends.mkldnn.enabled)
    torch.backends.mkldnn.enabled = True  # type: ignore[assignment]  # a property of the module
    restore.enter_context(torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False))
    if torch.get_default_device().type != "cpu":
        restore.enter_context(torch.device("cpu"))
    for backend in _PRECISIONS:
        restore.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
    # It refuses to be read where a backend's own precision, which is restored above, contradicts it.
    with contextlib.suppress(RuntimeError):
        restore.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision("highest")
    if _ONEDNN_CONVOLUTIONS is not None and _ONEDNN_CONVOLUTIONS.fp32_precision not in ("none", "ieee"):
        _ONEDNN_CONVOLUTIONS.fp32_precision = "ieee"


# Newer versions of torch have a precision for each library, besides the one that they share.
_ONEDNN_CONVOLUTIONS: Any = getattr(torch.backends.mkldnn, "conv", None)
_PRECISIONS: list[Any] = [
    backend
    for backend in (_ONEDNN_CONVOLUTIONS, getattr(torch.backends.mkldnn, "matmul", None), torch.backends.cuda.matmul)
    if hasattr(backend, "fp32_precision")
]
_turns = _Turns()
