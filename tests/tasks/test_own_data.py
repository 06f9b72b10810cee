"""Data of one's own, in every form that torch trains with."""

import pickle
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from releq_env.errors import ReLeQError
from releq_env.tasks.own_data import OwnData, own_data
from releq_env.tasks.own_outputs import joined, parts_of

INPUTS, LABELS = torch.arange(600.0).reshape(300, 2), torch.arange(300) % 3
VALIDATION = (torch.zeros(4, 2), torch.tensor([0, 1, 2, 0]))
TEST = (torch.ones(4, 2), VALIDATION[1])


class MapStyle(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return INPUTS[index], int(LABELS[index])


class Augmented(MapStyle):
    """Adds noise, anew at every access."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        inputs, label = super().__getitem__(index)
        return inputs + torch.rand(()) + float(np.random.rand()), label


class Stream(IterableDataset[tuple[Tensor, int]]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return zip(INPUTS, LABELS.tolist(), strict=True)


def read(training: Any, validation: Any = VALIDATION, limit: float = 1.0, test: Any = None) -> OwnData:
    return own_data("Own", training, validation, test, limit)


FORMS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: (INPUTS, LABELS),
    "a list": lambda: [INPUTS, LABELS],
    "arrays": lambda: (INPUTS.numpy().astype(np.float64), LABELS.numpy().astype(np.int32)),
    "a TensorDataset": lambda: TensorDataset(INPUTS, LABELS),
    "a Dataset": MapStyle,
    "a DataLoader": lambda: DataLoader(MapStyle(), batch_size=7),
    "a DataLoader that shuffles": lambda: DataLoader(MapStyle(), batch_size=7, shuffle=True, drop_last=True),
    "a stream": lambda: DataLoader(Stream(), batch_size=7),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_the_same_data(form: str) -> None:
    data = read(FORMS[form]())
    training, validation = data.load()
    assert torch.equal(training.inputs, INPUTS)
    assert torch.equal(training.targets, LABELS)
    assert training.targets.dtype == torch.int64
    assert len(validation.targets) == 4
    assert data.input_shape == (2,)
    assert data.fingerprint() == read((INPUTS, LABELS)).fingerprint()


CHOSEN = [7, 3, 250, 11]
SAMPLED: dict[str, Callable[[], DataLoader[Any]]] = {
    "a subset": lambda: DataLoader(MapStyle(), batch_size=3, sampler=SubsetRandomSampler(CHOSEN)),
    "a subset by a tensor": lambda: DataLoader(MapStyle(), sampler=SubsetRandomSampler(torch.tensor(CHOSEN))),
    "any sampler, twice each": lambda: DataLoader(MapStyle(), batch_size=3, drop_last=True, sampler=CHOSEN * 2),
    "a subset in batches": lambda: DataLoader(
        MapStyle(), batch_sampler=BatchSampler(SubsetRandomSampler(CHOSEN), 2, drop_last=True)
    ),
    "batches of its own": lambda: DataLoader(MapStyle(), batch_sampler=[[3, 7], [11, 250]]),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_only_what_a_loader_draws_is_read(name: str) -> None:
    training = read(SAMPLED[name]()).load()[0]
    assert torch.equal(training.inputs, INPUTS[sorted(CHOSEN)])
    assert torch.equal(training.targets, LABELS[sorted(CHOSEN)])


def test_plain_samplers_of_a_part_are_no_plain_ones() -> None:
    first = DataLoader(MapStyle(), sampler=SequentialSampler(range(5)))
    assert len(read(first).load()[0].targets) == 5
    drawn = DataLoader(MapStyle(), sampler=RandomSampler(MapStyle(), num_samples=10))  # ten an epoch, of all
    assert len(read(drawn).load()[0].targets) == 300


class InBatches(Dataset[tuple[Tensor, Tensor]]):
    """Every item is a batch."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return INPUTS[50 * index : 50 * index + 50], LABELS[50 * index : 50 * index + 50]


def the_only_one(items: list[Any]) -> Any:
    (one,) = items
    return one


def test_a_function_that_collates_gets_as_many_as_its_loader_gives_it() -> None:
    training = read(DataLoader(InBatches(), batch_size=1, collate_fn=the_only_one, shuffle=True)).load()[0]
    assert torch.equal(training.inputs, INPUTS)
    assert torch.equal(training.targets, LABELS)


def pairs(items: list[Any]) -> tuple[Tensor, Tensor]:
    assert 1 < len(items) <= 8
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


def test_so_it_does_behind_a_sampler_of_batches() -> None:
    batches = BatchSampler(RandomSampler(MapStyle()), 8, drop_last=False)
    assert torch.equal(read(DataLoader(MapStyle(), batch_sampler=batches, collate_fn=pairs)).load()[0].inputs, INPUTS)


class Halved(TensorDataset):
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        inputs, label = super().__getitem__(index)
        return inputs / 2, label


def test_a_dataset_of_ones_own_class_is_asked() -> None:
    assert torch.equal(read(Halved(INPUTS, LABELS)).load()[0].inputs, INPUTS / 2)


def test_a_samplers_generator_stays_where_it_was() -> None:
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    read(DataLoader(MapStyle(), sampler=SubsetRandomSampler(CHOSEN, generator=generator)))
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_what_is_changed_later_does_not_change_the_data(kind: str) -> None:
    inputs, labels = INPUTS.clone(), LABELS.clone()
    data = read((inputs, labels) if kind == "tensors" else (inputs.numpy(), labels.numpy()))
    inputs.zero_()
    labels.zero_()
    assert torch.equal(data.load()[0].inputs, INPUTS)
    assert torch.equal(data.load()[0].targets, LABELS)


def test_tensors_of_inference_mode_can_be_trained_with() -> None:
    with torch.inference_mode():
        inputs, labels = INPUTS.clone(), LABELS.clone()
    training = read((inputs, labels)).load()[0]
    assert not training.inputs.is_inference()
    assert not training.targets.is_inference()


def test_what_augments_is_drawn_once_and_always_the_same() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again = read(Augmented()), read(Augmented())
    assert first.fingerprint() == again.fingerprint()
    assert not torch.equal(first.load()[0].inputs, INPUTS)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_every_part_tells_data_apart() -> None:
    def known(training: Any = (INPUTS, LABELS), validation: Any = VALIDATION) -> str:
        return read(training, validation).fingerprint()

    other = LABELS.clone()
    other[5] = 2 - other[5]
    assert (
        len({known(), known((INPUTS + 1, LABELS)), known((INPUTS, other)), known(validation=(INPUTS + 2, LABELS))}) == 4
    )


def test_inputs_are_what_the_network_takes() -> None:
    pixels = read((torch.full((4, 1, 2, 2), 200, dtype=torch.uint8), LABELS[:4]), (torch.zeros(1, 1, 2, 2), LABELS[:1]))
    assert pixels.normalize(pixels.load()[0].inputs).unique().tolist() == [200.0]
    ids = read((torch.arange(8).reshape(4, 2), LABELS[:4]), (torch.arange(2).reshape(1, 2), LABELS[:1]))
    assert ids.normalize(ids.load()[0].inputs).dtype == torch.int64


def test_test_data_are_a_part_of_their_own() -> None:
    assert read((INPUTS, LABELS), test=TEST).load_test().targets.tolist() == [0, 1, 2, 0]
    for part, name in ((VALIDATION, "validation_data"), ((INPUTS, LABELS), "train_data")):
        with pytest.raises(ReLeQError, match=f"^{name} and test_data are the same; give test data of its own$"):
            read((INPUTS, LABELS), test=part)
    with pytest.raises(ReLeQError, match="Own has no test data; give test_data="):
        read((INPUTS, LABELS)).load_test()


def test_pickled_data_are_the_same() -> None:
    data = read((INPUTS, LABELS), test=TEST)
    other = pickle.loads(pickle.dumps(data))
    assert other.fingerprint() == data.fingerprint()
    assert torch.equal(other.load_test().inputs, TEST[0])
    assert {data: 1}[data] == 1


class Broken(MapStyle):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        raise OSError("the disk is gone")


class Ragged(MapStyle):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1 + index // 256), 0


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (None, "train_data=None is not accepted; give a pair"),
        ("digits", "train_data"),
        ((INPUTS, LABELS[:5]), "train_data has 300 inputs and 5 targets"),
        ((INPUTS[:0], LABELS[:0]), "train_data has 0 inputs"),
        ((INPUTS, ["a"] * 300), "no tensor"),
        ((INPUTS.to(torch.complex64), LABELS), "give real numbers"),
        ((torch.zeros(9, 5), LABELS[:9]), r"validation_data has inputs of shape \(2,\).*one of train_data \(5,\)"),
        ((INPUTS, LABELS.reshape(-1, 1)), r"targets of shape \(\), one of train_data \(2,\) and \(1,\)"),
        (VALIDATION, "train_data and validation_data are the same"),
        (Broken(), "train_data cannot be read .OSError: the disk is gone"),
        (Ragged(), "the examples of train_data are not of one shape"),
        (DataLoader(TensorDataset(INPUTS), batch_size=3), "yields batches like"),
        (DataLoader(TensorDataset(INPUTS, LABELS, LABELS), batch_size=3), "yields batches like"),
        ([], "train_data"),
        (((INPUTS, INPUTS), LABELS), "train_data has several inputs an example; wrap the network"),
        (({"ids": INPUTS, "mask": INPUTS}, LABELS), "train_data has several inputs an example"),
        (TensorDataset(INPUTS, INPUTS, LABELS), "yields batches like"),
    ],
    ids=range(17),
)
def test_what_is_no_data_is_refused_in_one_line(training: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        read(training)
    assert "\n" not in str(raised.value)


def tensors(rows: int) -> st.SearchStrategy[Tensor]:
    shapes = st.lists(st.integers(1, 3), max_size=2)
    kinds = st.sampled_from([torch.float32, torch.int64, torch.bool])
    return st.tuples(shapes, kinds).map(lambda drawn: (10 * torch.randn(rows, *drawn[0])).to(drawn[1]))


NESTS = st.recursive(
    tensors(3),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1)
    ),
    max_leaves=5,
)


@given(NESTS)
def test_what_is_joined_comes_apart_again(nest: Any) -> None:
    leaves, layout = parts_of(nest, "it")
    again = layout.split(joined(nest, torch.float64), types=True)
    others, same = parts_of(again, "it")
    assert same == layout
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(leaves, others, strict=True))


class Answer(NamedTuple):
    scores: Tensor
    label: Tensor


class Fixed(dict[str, Tensor]):
    """Takes no names."""

    def __init__(self, scores: Tensor, label: Tensor) -> None:
        super().__init__({"a": scores, "b": label})


def made_here(scores: Tensor, label: Tensor) -> Any:
    return namedtuple("Nowhere", ["scores", "label"])(scores, label)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(Answer, Answer), (made_here, tuple), (Fixed, dict), (lambda a, b: OrderedDict(a=a, b=b), OrderedDict)],
    ids=range(4),
)
def test_types_come_back_where_they_can_be_made(make: Callable[..., Any], kind: type) -> None:
    first, again = (parts_of(make(torch.rand(3, 2), torch.arange(3)), "it")[1] for _ in range(2))
    assert first == again
    nest = pickle.loads(pickle.dumps(first)).rebuilt([torch.zeros(3, 2), torch.arange(3)])
    assert type(nest) is kind


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["pair", "dataset"])
def test_inputs_that_are_not_finite_are_named(form: str, value: float) -> None:
    inputs, targets = torch.rand(600, 3), torch.arange(600) % 2
    inputs[300, 1] = inputs[599, 0] = value
    data: Any = (inputs, targets) if form == "pair" else list(zip(inputs, targets, strict=True))
    with pytest.raises(ReLeQError, match="example 300 of train_data has NaN or infinite inputs"):
        own_data("net", data, (torch.rand(4, 3), torch.arange(4) % 2), None, 4.0)


def test_what_a_sampler_leaves_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    whole = TensorDataset(torch.rand(40, 3), torch.arange(40) % 2)
    some = DataLoader(whole, 8, sampler=SubsetRandomSampler(range(10)))
    weighted = DataLoader(whole, 8, sampler=WeightedRandomSampler([1.0] * 20 + [9.0] * 20, 40))
    data = own_data("net", some, weighted, None, 4.0)
    assert [len(part.targets) for part in data.load()] == [10, 40]
    said = capsys.readouterr().err
    assert "train_data: 10 of the 40 examples of its data set are read, those that its sampler draws" in said
    assert "validation_data" not in said
    some = DataLoader(whole, 8, sampler=WeightedRandomSampler([0.0] * 20 + [9.0] * 20, 40))
    data = own_data("net", some, weighted, None, 4.0)
    assert torch.equal(data.load()[0].inputs, whole.tensors[0][20:])
    assert "20 of the 40 examples" in capsys.readouterr().err


def test_targets_in_another_order_are_named() -> None:
    inputs, column = torch.rand(8, 3), torch.rand(8)
    with pytest.raises(ReLeQError, match="b: .*a: .* as targets, and one of train_data .*a: .*b: "):
        own_data("net", (inputs, {"a": column, "b": column}), (inputs + 1.0, {"b": column, "a": column}), None, 4.0)
