"""The file of a trained policy: arrays as NumPy stores them, and in words how it was trained; no pickle is read."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.algorithms.transfer.policy import Policy, untrained
from agents.algorithms.transfer.prior import Singles
from agents.algorithms.transfer.sight import FEATURES
from releq_env.errors import ReLeQError, short
from releq_env.files import replace_file

SHIPPED = Path(__file__).parent / "weights"
AUTO, MADE_UP = "auto", "made-up"

_ABOUT = "about.json"
_LARGEST = 2**20  # bytes that are read
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)


def policy_path(name_or_path: str, problem: str, folder: Path = SHIPPED) -> Path:
    """Return the file of a policy.

    Args:
        name_or_path: Name of a shipped policy, or a path; `auto` is the shipped one that was trained without the table
            of the problem's name, and where there is none such, the one that was trained on no table at all.
        problem: Name of the problem.
        folder: Of the shipped ones.

    Raises:
        ReLeQError: If there is none.
    """
    if not isinstance(name_or_path, str):
        raise ReLeQError(f"weights={short(name_or_path)} is not accepted; give a name or a path")
    shipped = {path.stem: path for path in folder.glob("*.npz")}
    if name_or_path == AUTO:
        name_or_path = f"without-{problem}" if f"without-{problem}" in shipped else MADE_UP
    try:
        path = shipped.get(name_or_path) or Path(name_or_path).expanduser()
    except RuntimeError:  # ~ and an unknown user
        path = Path(name_or_path)
    if not path.is_file():
        raise ReLeQError(
            f"weights={name_or_path!r} is no policy; give the path of one that python -m benchmarks.transfer --train "
            f"has written, or one of: {', '.join([AUTO, *sorted(shipped)])}"
        )
    return path


def read_policy(path: Path) -> tuple[Policy, dict[str, Any]]:
    """Return a policy and how it was trained.

    Raises:
        ReLeQError: If the file is damaged, something else, or of other features.
    """
    arrays, about = read_arrays(path, Policy._fields)
    shapes = {name: array.shape for name, array in untrained()._asdict().items()}
    if about.get("features") != list(FEATURES) or shapes != {name: each.shape for name, each in arrays.items()}:
        raise ReLeQError(f"{path} holds a policy of other features; train it again")
    return Policy(**arrays), about


def write_arrays(path: Path, arrays: Mapping[str, Singles], about: Mapping[str, Any]) -> None:
    """Write arrays, whole or not at all; the same content gives the same bytes.

    Args:
        path: The file.
        arrays: What is kept.
        about: What they are, JSON-able.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(about, indent=1), zipfile.ZIP_DEFLATED)  # of no date
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array, "<f4"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, packed.getvalue())


def read_arrays(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Singles], dict[str, Any]]:
    """Return the arrays of a file and what they are.

    Raises:
        ReLeQError: If the file is damaged, or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise ValueError(f"more than {_LARGEST} bytes")
            about = dict(json.loads(archive.read(_ABOUT)))
            contents = {name: io.BytesIO(archive.read(f"{name}.npy")) for name in names}
        arrays = {name: np.lib.format.read_array(each, allow_pickle=False) for name, each in contents.items()}
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("a number that is not finite")
    except _DAMAGED as error:
        raise ReLeQError(f"{path} holds no policy ({type(error).__name__}: {error}); train it again") from error
    return arrays, about
