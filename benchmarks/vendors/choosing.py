"""A tool's choice as a row."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.common.machine import processor
from benchmarks.vendors.networks import Plan, given
from benchmarks.vendors.registry import VENDORS
from benchmarks.vendors.rows import Chosen, Key
from benchmarks.vendors.vendor import Vendor
from releq_env.devices import cores
from releq_env.errors import ReLeQError
from releq_env.problem import Problem


def choose(key: Key, problem: Problem, plan: Plan, folder: Path) -> Chosen:
    """Let a tool choose; what it says goes to a file in the folder.

    Args:
        key: What is asked for.
        problem: The network's.
        plan: How much is measured.
        folder: Emptied; the tool's files go there.

    Raises:
        ReLeQError: If it answers something else than was asked for.
        Exception: Whatever it raises.
    """
    vendor = VENDORS[key.vendor]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row = Chosen(*key, "", 0.0, 0.0, 0.0, 0, "", _version(vendor), place())
    if key.budget < min(vendor.bits):
        return row._replace(note=f"no layer has fewer than {min(vendor.bits)} bits")
    with _said_to(folder / "log.txt"):
        choice = vendor.chosen(given(problem, plan), key.budget, folder)
    names = [layer.name for layer in problem.layers]
    if sorted(choice.bitwidths) != sorted(names):
        raise ReLeQError(f"{vendor.label} gives bitwidths of {sorted(choice.bitwidths)}; the layers are {names}")
    bitwidths = problem.check([choice.bitwidths[name] for name in names])
    terms = problem.terms(bitwidths)
    if terms["weighted_bits"] > key.budget + 1e-9:
        raise ReLeQError(f"{vendor.label} gives {terms['weighted_bits']:.3f} bits a weight for {key.budget:g}")
    return row._replace(
        bitwidths=" ".join(map(str, bitwidths)),
        average_bits=round(terms["average_bits"], 4),
        weighted_bits=round(terms["weighted_bits"], 4),
        seconds=round(choice.seconds, 2),
        file_bytes=choice.file.stat().st_size,
    )


def place() -> str:
    """Return in words what is measured on."""
    return f"{processor()}, {cores()} cores"


def _version(vendor: Vendor) -> str:
    """Return the version of what pip is given first, or of this package."""
    try:
        return version((vendor.install or "releq_env").split()[0])
    except PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _said_to(file: Path) -> Iterator[None]:
    """Write to a file what this process and its children print, C code included."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with file.open("ab") as below:
        for descriptor in (1, 2):
            os.dup2(below.fileno(), descriptor)
    try:
        with file.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
