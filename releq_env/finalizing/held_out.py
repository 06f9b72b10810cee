"""The one place where final results read test data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import nn

from releq_env.errors import ReLeQError
from releq_env.finalizing.folder import FinalFolder
from releq_env.tasks import Examples, Task
from releq_env.tasks.pretraining import score


@dataclass(frozen=True)
class TestData:
    """Test data.

    Attributes:
        read: Reads them.
        name: Of the data set.
        digest: Returns what tells them from others, for which they may have to be read.
    """

    read: Callable[[], Examples]
    name: str
    digest: Callable[[], str]

    @cached_property
    def label(self) -> str:
        """Name and digest. Raises `ReLeQError` if they have to be read and cannot be."""
        return f"{self.name} {self.digest()}"


class Network(NamedTuple):
    """A finished network.

    Attributes:
        load: Returns it, in full precision or with dequantized weights, on the CPU.
        row: What `test_reads.csv` says of it.
    """

    load: Callable[[], nn.Module]
    row: dict[str, Any]


def read_test(test: TestData, task: Task, networks: Iterable[Network], folder: FinalFolder) -> list[float]:
    """Return the test accuracy of networks, in [0, 1].

    Each is listed in the folder before it is measured, and measured once on these data: what was read stays there.

    Args:
        test: The test data.
        task: Whose metric is taken.
        networks: Final ones: nothing is chosen among them any more.
        folder: Keeps the list.

    Raises:
        ReLeQError: If the data are not to be had, what was read is damaged or cannot be written, or the metric is not
            in [0, 1].
    """
    networks = list(networks)
    known = _read_before(folder)
    of_data = known.setdefault(test.label, {})
    missing = {digest: network for network in networks if (digest := network.row["sha256"]) not in of_data}
    if missing:
        examples = test.read()
        for network in missing.values():
            folder.note_read(network.row | {"data": test.label})
            of_data[network.row["sha256"]] = accuracy(network.load(), examples, task)
            folder.write("test.json", {"accuracy": known})
    return [of_data[network.row["sha256"]] for network in networks]


def _read_before(folder: FinalFolder) -> dict[str, dict[str, float]]:
    """Return what was read, by the label of the data and the hash of the network."""
    content = folder.read("test.json")
    if content is None:
        return {}
    try:
        # Before, one file was of one data.
        found = {content["data"]: content["accuracy"]} if "data" in content else content["accuracy"]
        return {
            str(label): {str(network): float(value) for network, value in of_data.items()}
            for label, of_data in found.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReLeQError(
            f"{folder.path / 'test.json'} is damaged: it holds no accuracies on test data; give another folder"
        ) from error


def accuracy(network: nn.Module, examples: Examples, task: Task) -> float:
    """Return the metric of a network on examples, in float32.

    Raises:
        ReLeQError: If it is not in [0, 1].
    """
    measured = score(network, examples, task)
    if not 0.0 <= measured <= 1.0:
        raise ReLeQError(f"the metric of {task.name} has given {measured}; let it return a number in [0, 1]")
    return measured
