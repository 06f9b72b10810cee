"""Which device and which arithmetic to use."""

import os

import torch

from releq_env.errors import ReLeQError, check_choice

PRECISIONS = ("auto", "fp32", "bf16")


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device, checked. `"auto"` is CUDA where there is one, else the CPU.

    Raises:
        ReLeQError: If it is unknown or not there.
    """
    accepted = "choose 'cpu', 'cuda', 'cuda:N' or 'auto'"
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        raise ReLeQError(f"unknown device {device!r}; {accepted}") from None
    if resolved.type not in ("cpu", "cuda"):
        raise ReLeQError(f"device {device!r} is not supported; {accepted}")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ReLeQError(
            f"device={str(device)!r} was asked for, but torch finds no such CUDA device; use device='cpu' or 'auto'"
        )
    return resolved


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of activations and matrix products.

    Args:
        precision: `"fp32"`, `"bf16"` (autocast), or `"auto"`: bf16 where the processor computes in it.
        device: Where it will run.

    Raises:
        ReLeQError: If the name is unknown.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "auto":
        return torch.bfloat16 if _has_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Emulated bf16 is slower than fp32. The names of these probes are private in torch.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
