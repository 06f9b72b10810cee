"""What a teacher returns, kept for all ways in which inputs are augmented."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from releq_env.retraining.final.outputs import outputs_by_way
from releq_env.tasks.augmentation import Augmentation

INPUTS = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
AUGMENTATION = Augmentation(flip=True, shift=1)


class Counted:
    """A teacher that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        self.asked += 1
        return inputs[:, 0, :2, 1] + 2.0 * inputs[:, 0, 2:, 2]


def test_any_input_in_any_way_is_looked_up() -> None:
    teacher = Counted()
    known = outputs_by_way(teacher, INPUTS, AUGMENTATION)
    assert known.shape == (18, 7, 2)
    ways, batch = torch.arange(18), torch.arange(18) % 7
    assert torch.equal(known[ways, batch], teacher(AUGMENTATION.apply(INPUTS[batch], ways)))


def test_inputs_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outputs_by_way(Counted(), INPUTS, AUGMENTATION)
    monkeypatch.setattr("releq_env.retraining.final.outputs.INFERENCE_BATCH", 3)
    teacher = Counted()
    assert torch.equal(outputs_by_way(teacher, INPUTS, AUGMENTATION), whole)
    assert teacher.asked == 3 * 18


def test_it_is_computed_once_and_kept(tmp_path: Path) -> None:
    path, teacher = tmp_path / "new" / "teacher.safetensors", Counted()
    first = outputs_by_way(teacher, INPUTS, AUGMENTATION, path)
    assert teacher.asked == 18
    assert torch.equal(outputs_by_way(teacher, INPUTS, AUGMENTATION, path), first)
    assert teacher.asked == 18


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_what_is_damaged_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    path, teacher = tmp_path / "teacher.safetensors", Counted()
    first = outputs_by_way(teacher, INPUTS, AUGMENTATION, path)
    path.write_bytes(path.read_bytes()[:-5] if damage is None else damage)
    assert torch.equal(outputs_by_way(teacher, INPUTS, AUGMENTATION, path), first)
    assert teacher.asked == 36
    outputs_by_way(teacher, INPUTS, AUGMENTATION, path)
    assert teacher.asked == 36


def test_where_nothing_can_be_kept_it_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    known = outputs_by_way(Counted(), INPUTS, AUGMENTATION, tmp_path / "file" / "teacher.safetensors")
    assert torch.equal(known, outputs_by_way(Counted(), INPUTS, AUGMENTATION))


def test_it_is_shown_how_far_it_is() -> None:
    seen = []

    def shown(ways: range) -> Iterator[int]:
        for way in ways:
            seen.append(way)
            yield way

    outputs_by_way(Counted(), INPUTS, AUGMENTATION, shown=shown)
    assert seen == list(range(18))
