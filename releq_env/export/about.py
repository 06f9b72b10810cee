"""What a packed file says of the network around its weights: how to make one, and what goes into it."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from releq_env.errors import ReLeQError, short

INPUT_TYPES = ("float32", "int64")
_LARGEST = 2**24


@dataclass(frozen=True)
class About:
    """What is to be known of a network besides its weights, all of it optional.

    No field names code: a file that is read never says what is to be imported or run.

    Attributes:
        task: Name in `releq_env.tasks.TASKS` of the task whose network it is, or `None`: a network of one's own.
        input_shape: Shape of one input, without the batch dimension, or `None`.
        input_dtype: Type of the inputs, one of `INPUT_TYPES`.

    Raises:
        ReLeQError: If a field is something else.
    """

    task: str | None = None
    input_shape: tuple[int, ...] | None = None
    input_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.task is not None and not (isinstance(self.task, str) and 0 < len(self.task) <= 200):
            raise ReLeQError(f"task={short(self.task)} is no name; give that of a task, or None")
        if self.input_shape is not None:
            if not isinstance(self.input_shape, tuple | list) or len(self.input_shape) > 8:
                raise ReLeQError(f"input_shape={short(self.input_shape)} is no shape; give a tuple of whole numbers")
            if not all(type(size) is int and 0 < size <= _LARGEST for size in self.input_shape):
                raise ReLeQError(f"input_shape={short(self.input_shape)} is no shape; give whole numbers from 1")
            object.__setattr__(self, "input_shape", tuple(self.input_shape))
        if self.input_dtype not in INPUT_TYPES:
            raise ReLeQError(f"input_dtype={short(self.input_dtype)} is unknown; give {' or '.join(INPUT_TYPES)}")

    def described(self) -> dict[str, object]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def read(cls, described: Any) -> "About":
        """Return it from what JSON makes of it.

        Raises:
            ValueError: If that is something else.
        """
        if not isinstance(described, dict) or set(described) != {field.name for field in fields(cls)}:
            raise ValueError("what it says of its network is something else than task, input_shape, input_dtype")
        return cls(**described)
