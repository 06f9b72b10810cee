"""What has to fail, and what must not: commands that refuse what they are given, and warnings."""

from collections.abc import Callable, Sequence

import pytest

no_warning = pytest.mark.filterwarnings("error", "default::pytest.PytestUnraisableExceptionWarning")
"""Mark of a test that no warning may come from; what another test has left to the garbage collector is not its own."""


def one_line(main: Callable[[Sequence[str]], None], *arguments: str) -> str:
    """Run the command, which must end with one line, and return it."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    message = str(ended.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message
