"""Running a command in tests that has to refuse what it is given."""

from collections.abc import Callable, Sequence

import pytest


def one_line(main: Callable[[Sequence[str]], None], *arguments: str) -> str:
    """Run the command, which must end with one line, and return it."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    message = str(ended.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message
