"""Whether a file stands in the repository as it is: what is chosen is committed before test data are read."""

import subprocess
from pathlib import Path


def is_committed(path: Path) -> bool:
    """Return whether a file is in the last commit of the repository that it lies in, byte for byte.

    Args:
        path: The file.
    """
    known = _git(path, "ls-files", "--error-unmatch", "--", path.name)
    return known and _git(path, "diff", "--quiet", "HEAD", "--", path.name)


def _git(path: Path, *arguments: str) -> bool:
    try:
        return subprocess.run(["git", *arguments], cwd=path.parent, capture_output=True, check=False).returncode == 0
    except OSError:  # no git, or no such folder
        return False
