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
    # Emulated bf16 is slower than fp32.
    return bool(_matrix_extensions())


def instruction_set(device: torch.device | None = None) -> str:
    """Return what tells processors apart that may round differently, e.g. `"Intel+AVX512+amx_tile+avx512_bf16"`.

    Args:
        device: Where it is computed; `None` is the CPU. A GPU is told by its name.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Libraries of matrix products choose their code by the vendor, too. Older versions of torch do not know it.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    vendor = str(capabilities.get("cpu_name", "unknown")).split(" ")[0]
    return "+".join([vendor, torch.backends.cpu.get_cpu_capability(), *_matrix_extensions()])


def _matrix_extensions() -> list[str]:
    """Return which of the instructions that compute in bf16 the processor has."""
    # The names of these probes are private in torch.
    return [name for name in ("amx_tile", "avx512_bf16") if getattr(torch.cpu, f"_is_{name}_supported", bool)()]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
