"""The file of a table: arrays as NumPy stores them and readable metadata in one zip; no pickle is ever read."""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError
from releq_env.files import replace_file

_METADATA = "metadata.json"
_ARRAYS: dict[str, tuple[np.dtype[Any], int]] = {
    "bitwidths": (np.dtype("u1"), 2),
    "seeds": (np.dtype("<i8"), 1),
    "accuracy": (np.dtype("<f8"), 1),
}
_LARGEST_METADATA = 2**20  # bytes
_LARGEST_ARRAY = 2**26  # bytes: eight million records
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError),
    *(KeyError, TypeError, SyntaxError, MemoryError),  # a RecursionError is a RuntimeError
)


def write(path: Path, metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a table, whole or not at all; the same content gives the same bytes.

    Args:
        path: The file.
        metadata: JSON-able.
        arrays: `bitwidths`, shape `(records, layers)`, `seeds` and `accuracy`, shape `(records,)`.

    Raises:
        ReLeQError: If it cannot be written, or could not be read again.
    """
    packed = io.BytesIO()
    text = _text(path, metadata)
    for name, (dtype, _) in _ARRAYS.items():
        if (size := arrays[name].size * dtype.itemsize) > _LARGEST_ARRAY:
            raise ReLeQError(
                f"the table {path} would hold {size} bytes of {name}, and at most {_LARGEST_ARRAY} are read; "
                "save fewer records in a file"
            )
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_METADATA), text, zipfile.ZIP_DEFLATED)  # ZipInfo: of no date
        for name, (dtype, _) in _ARRAYS.items():
            content = io.BytesIO()
            array = np.ascontiguousarray(arrays[name], dtype)
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)
    try:
        replace_file(path, packed.getvalue())
    except OSError as error:
        raise ReLeQError(f"the table {path} cannot be written ({error.strerror}); give another path") from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return metadata and arrays, as `write` takes them. Types and shapes are checked before memory is taken.

    Raises:
        ReLeQError: If the file is not there, damaged, or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            wanted = sorted([_METADATA, *(f"{name}.npy" for name in _ARRAYS)])
            if names != wanted:
                raise ValueError(f"it does not hold exactly {', '.join(wanted)}")
            metadata = _metadata(archive)
            arrays = {name: _array(archive, name, *kind) for name, kind in _ARRAYS.items()}
        return metadata, arrays
    except OSError as error:
        raise ReLeQError(f"the table {path} cannot be read ({error.strerror or error}); give another path") from error
    except _DAMAGED as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: Exception) -> ReLeQError:
    """Return the error for a file that is no table, in one line."""
    said = " ".join(str(why).split()) or type(why).__name__
    return ReLeQError(f"{path} is damaged, or no accuracy table ({said[:300]}); get it anew, or build it again")


def _text(path: Path, metadata: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(metadata, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ReLeQError(
            f"the table {path} would hold in about= what JSON does not ({error}); give text, numbers, lists and "
            "dictionaries"
        ) from error
    if (size := len(text.encode())) > _LARGEST_METADATA:
        raise ReLeQError(
            f"the table {path} would hold {size} bytes of {_METADATA}, and at most {_LARGEST_METADATA} are read; "
            "give a smaller about=, or fewer layers"
        )
    return text


def _metadata(archive: zipfile.ZipFile) -> dict[str, Any]:
    with archive.open(_METADATA) as file:
        text = file.read(_LARGEST_METADATA + 1)
    if len(text) > _LARGEST_METADATA:
        raise ValueError(f"{_METADATA} has more than {_LARGEST_METADATA} bytes")
    metadata = json.loads(text.decode(), parse_constant=_refuse)
    if not isinstance(metadata, dict):
        raise TypeError(f"{_METADATA} is not an object")
    return metadata


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], dimensions: int) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is not in version 1.0 of NumPy's format")
        shape, by_columns, found = np.lib.format.read_array_header_1_0(file)
        if found.hasobject:
            raise ValueError(f"{name} holds pickled objects, which are never read")
        if found != dtype or len(shape) != dimensions or by_columns or min(shape) < 0:
            raise ValueError(f"{name} is {found} of shape {shape}, not {dtype} of {dimensions} dimensions")
        size = math.prod(shape) * dtype.itemsize
        if size > _LARGEST_ARRAY:
            raise ValueError(f"{name} declares the shape {shape}, more than {_LARGEST_ARRAY} bytes")
        content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{name} declares the shape {shape} and holds another number of bytes")
    return np.frombuffer(content, dtype).reshape(shape)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{_METADATA} holds {constant}")
