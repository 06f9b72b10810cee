"""The one exception of the package that stands for a mistake in what was given."""

from collections.abc import Iterable


class ReLeQError(ValueError):
    """Wrong input: one line that says what was given, what is accepted and how to mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # what libraries beneath say may have several lines


def check_choice(kind: str, given: object, accepted: Iterable[str]) -> None:
    """Raise if `given` is not one of the accepted names.

    Args:
        kind: What the name stands for, e.g. `"quantizer"`.
        given: The value to check.
        accepted: The names that are accepted.

    Raises:
        ReLeQError: If `given` is not among them.
    """
    names = tuple(accepted)
    if not isinstance(given, str) or given not in names:
        raise ReLeQError(f"unknown {kind} {given!r}; choose one of: {', '.join(names)}")
