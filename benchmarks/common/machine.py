"""What a measurement was made on and with."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from releq_env.devices import cores, resolve_precision
from releq_env.finalizing.progress import counted

ROOT = Path(__file__).parents[2]
_CPU_INFO = Path("/proc/cpuinfo")
_PACKAGES = ("torch", "torchvision", "numpy", "gymnasium", "releq_env", "brevitas", "nvidia-modelopt")


def describe() -> dict[str, object]:
    """Return the machine, the versions, the threads and the revision, JSON-able."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "threads": torch.get_num_threads(),
        "precision": str(resolve_precision("auto", torch.device("cpu"))).removeprefix("torch."),
        "revision": revision(),
    }


def listed(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line of Markdown for each machine with its versions, and at which revisions it was at work."""
    revisions: dict[str, list[str]] = {}
    for each in machines:
        versions = ", ".join(f"{name} {found}" for name, found in each["versions"].items())
        line = f"- {counted(each['cores'], 'core')} of {each['processor']}, Python {each['python']}, {versions}"
        revisions.setdefault(line, []).append(str(each["revision"]))
    return [f"{line}; revision {', '.join(found)}" for line, found in revisions.items()]


def processor() -> str:
    """Return the processor's name."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def revision() -> str | None:
    """Return the git revision, marked `-dirty` if tracked files were changed; `None` outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
