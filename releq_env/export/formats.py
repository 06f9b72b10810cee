"""The table of formats. What writes and runs them is imported on first use."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from releq_env.errors import ReLeQError
from releq_env.export.agreement import Runner
from releq_env.export.folder import PACKED
from releq_env.export.model import Model


@dataclass(frozen=True)
class Format:
    """One entry of `FORMATS`.

    Attributes:
        file: What the exported file is called if nothing is said.
        write: `(model, path) -> lines` to be printed, or where that is: `"module:name"`.
        run: `(model, path) -> Runner`, likewise.
    """

    file: str
    write: str | Callable[[Model, Path], list[str]]
    run: str | Callable[[Model, Path], Runner]

    def writer(self) -> Callable[[Model, Path], list[str]]:
        """Return what writes a file.

        Raises:
            ReLeQError: If libraries that it needs are not installed.
        """
        return _resolved(self.write)

    def runner(self) -> Callable[[Model, Path], Runner]:
        """Return what makes a file run.

        Raises:
            ReLeQError: If libraries that it needs are not installed.
        """
        return _resolved(self.run)


FORMATS = {
    "packed": Format(PACKED, "releq_env.export.copied:write", "releq_env.export.copied:run"),
    "onnx": Format("network.onnx", "releq_env.export.onnx:write", "releq_env.export.onnx_run:run"),
    "torchao": Format("network.torchao.safetensors", "releq_env.export.torchao:write", "releq_env.export.torchao:run"),
}
"""By name. Others add their own: nothing else lists formats."""


def _resolved(entry: str | Callable[..., Any]) -> Callable[..., Any]:
    try:
        return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry
    except ModuleNotFoundError as error:
        raise ReLeQError(f"this needs {error.name}, which is not installed; pip install 'releq_env[export]'") from error
