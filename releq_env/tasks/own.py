"""A user's own network and data, as a task: the whole engine takes it then like a built-in one."""

import contextlib
import copy
import functools
import hashlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError, short
from releq_env.quantization.layers import NOT_CALLED, Survey, bare, survey
from releq_env.tasks.datasets import Examples
from releq_env.tasks.layouts import keep_contiguous, takes_channels_last
from releq_env.tasks.own_data import own_data
from releq_env.tasks.own_outputs import Layout, Separated, join_outputs, parts_of
from releq_env.tasks.pretrained import Pretrained, architecture, behaviour_sha256, load_pretrained
from releq_env.tasks.strides import without_strides
from releq_env.tasks.task import PretrainingRecipe, RetrainingRecipe, Task, top1_accuracy

_MEASURING_BATCH = 128
_PROBES = 4
_SURVEYED = 64  # examples that a network is run on to find its layers: some may be called for few of them


class OwnNetwork(NamedTuple):
    """A user's network, checked and measured.

    Attributes:
        task: Network, data, loss and metric. The recipe of the short retraining says 0 images.
        pretrained: The network as it is quantized.
        left_out: What of it is not quantized, by name, with the reason.
    """

    task: Task
    pretrained: "OwnPretrained"
    left_out: dict[str, str]


@dataclass(frozen=True, eq=False)
class OwnPretrained(Pretrained):
    """A full-precision network whose inputs may be anything.

    Attributes:
        probes: A few inputs that tell what it computes.
    """

    probes: Tensor = field(default_factory=lambda: torch.empty(0))

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """See `Pretrained`."""
        return {
            "weights": self.sha256,
            "architecture": architecture(self.network),
            "computes": behaviour_sha256(self.network, self.input_shape, self.probes),
            "accuracy": repr(self.accuracy),  # on all of validation: what a few inputs do not tell
        }


@dataclass(frozen=True)
class Given:
    """Makes a network by giving the one that there is; a task copies it.

    Attributes:
        network: As given.
    """

    network: nn.Module

    def __call__(self) -> nn.Module:
        return self.network


@dataclass(frozen=True)
class FromZero:
    """A metric, of which values below 0 count as 0: R2 of a network that has collapsed is negative.

    Above a bound they count as that: retrained, a network may be better than what 1 stands for. It is not asked about
    outputs that are no numbers any more, which many metrics refuse: they count as 0. So do infinite ones if it refuses
    them.

    Attributes:
        metric: `(outputs, targets) -> number`.
        most: The bound; none before it is known that the network in full precision keeps it.
    """

    metric: Callable[[Any, Any], Any]
    most: float = math.inf

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        if outputs.isnan().any():
            return 0.0
        try:
            value = float(self.metric(outputs, targets))
        except Exception as error:  # whatever a metric raises
            if outputs.isinf().any():
                return 0.0
            raise ReLeQError(f"metric= fails ({type(error).__name__}: {' '.join(str(error).split())})") from error
        return min(value, self.most) if value > 0.0 else 0.0


@torch.inference_mode(False)  # the caller's: what is copied here is differentiated later
def own_network(
    model: nn.Module,
    train_data: Any,
    validation_data: Any,
    *,
    test_data: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    metric: Callable[[Any, Any], Any] | None = None,
    distillation: Callable[[Any, Any], Any] | None = None,
    skip: Collection[str] = (),
    pretraining: PretrainingRecipe | None = None,
    min_relative_accuracy: float = 0.99,
    cache_key: str | None = None,
    name: str | None = None,
    data_limit: float = 4.0,
) -> OwnNetwork:
    """Return a user's network as a task, not trained yet, see `trained`; it is copied, and stays as it is.

    Args:
        model: Any module that computes in float32, of one input.
        train_data: A pair `(inputs, targets)` of tensors or arrays, a `Dataset` or a `DataLoader`.
        validation_data: Likewise; never trained on.
        test_data: Likewise, for final reports only, or `None`.
        loss: `(outputs, targets) -> scalar`. `None`: cross-entropy, of a classifier.
        metric: `(outputs, targets) -> number`, larger is better, at most 1; below 0 counts as 0.
            `None`: the share of right classes, of a classifier.
        distillation: `(outputs, full-precision outputs) -> scalar`, see `Task`.
        skip: Names of modules that stay in full precision.
        pretraining: How the network is to be trained first. `None`: it is trained.
        min_relative_accuracy: Accuracy constraint in (0, 1].
        cache_key: A name for loss and metric where they are not torch's, see `Task`.
        name: Of the network. Default: that of its class.
        data_limit: How many GB the data may have in memory; what is more is kept in files.

    Raises:
        ReLeQError: In one line, if something is not accepted, or the network cannot be run on the data.
    """
    _check_arguments(loss, metric, distillation, skip, cache_key, name)
    network = _copied(model)
    name = type(model).__name__ if name is None else name
    data = own_data(name, train_data, validation_data, test_data, data_limit)
    training, validation = data.load()
    # A copy, in one layout: it is kept and sent elsewhere, and is to be the same wherever the data are.
    few = data.normalize(training.inputs[:_PROBES]).contiguous().clone()
    found = _surveyed(network, data.normalize(training.inputs[:_SURVEYED]).contiguous(), skip)
    _thaw(network, found)
    outputs = parts_of(found.outputs, f"what {name} returns")[1]
    _check_batches(network, few, outputs, name)
    if not takes_channels_last(network, few):
        keep_contiguous(network)
        if not takes_channels_last(network, few):
            raise ReLeQError(
                f"{name} cannot be run on images with channels last, as they are computed here; where it has "
                "view(...), let it have flatten(1) or reshape(...)"
            )
    if outputs.several:
        join_outputs(network)
    loss, metric = _checked_functions(loss, metric, network, few, (outputs, data.layout), (training, validation))
    task = Task(
        name=name,
        network=Given(network),
        dataset=data,
        pretraining=pretraining or PretrainingRecipe(epochs=0),
        retraining=RetrainingRecipe(images=0),
        min_relative_accuracy=min_relative_accuracy,
        loss=loss,
        metric=metric,
        distillation=Separated(distillation, outputs, outputs) if distillation and outputs.several else distillation,
        cache_key=cache_key,
    )
    return _measured(task, network, found, few, may_be_zero=task.pretraining.epochs > 0)


def trained(own: OwnNetwork, skip: Collection[str] = ()) -> OwnNetwork:
    """Return a network of one's own after the training that its task's recipe says, measured anew.

    Args:
        own: As `own_network` makes it.
        skip: See there.

    Raises:
        ReLeQError: If it cannot be trained, or its metric is not in (0, 1] then.
    """
    if not own.task.pretraining.epochs:
        return own
    network = load_pretrained(own.task, probes=own.pretrained.probes).network
    for name, parameter in own.pretrained.network.named_parameters():
        network.get_parameter(name).requires_grad_(parameter.requires_grad)
    data = own.task.dataset
    found = _surveyed(network, data.normalize(data.load()[0].inputs[:_SURVEYED]).contiguous(), skip)
    return _measured(replace(own.task, network=Given(network)), network, found, own.pretrained.probes)


def _check_arguments(loss: Any, metric: Any, distillation: Any, skip: Any, cache_key: Any, name: Any) -> None:
    """Check what can be checked before the data are read, which may take long."""
    for function, what in ((loss, "loss"), (metric, "metric"), (distillation, "distillation")):
        if function is not None and not callable(function):
            returns = "number" if what == "metric" else "scalar tensor"
            raise ReLeQError(f"{what}={short(function)} is no function; give (outputs, targets) -> {returns}")
    for text, what in ((cache_key, "cache_key"), (name, "name")):
        if text is not None and (not isinstance(text, str) or not text):
            raise ReLeQError(f"{what}={short(text)} is not accepted; give a text, or leave it out")
    named = (skip,) if isinstance(skip, str) else skip
    if not isinstance(named, Collection) or not all(isinstance(each, str) for each in named):
        raise ReLeQError(f"skip={short(skip)} is not accepted; give a list of names of modules")


def _measured(task: Task, network: nn.Module, found: Survey, few: Tensor, may_be_zero: bool = False) -> OwnNetwork:
    accuracy = _score(task, network, task.dataset.load()[1])
    if not 0.0 < accuracy <= 1.0 and not (may_be_zero and accuracy == 0.0):
        raise ReLeQError(
            f"metric= gives {accuracy:g} for {task.name} on the validation data; give one in (0, 1], larger is better: "
            "accuracy, R2, IoU, or 1 / (1 + error)"
        )
    if isinstance(task.metric, FromZero) and not may_be_zero:  # else it is trained, and measured again
        task = replace(task, metric=replace(task.metric, most=1.0))
    weights = _state_sha256(network)
    shape = task.dataset.input_shape
    return OwnNetwork(task, OwnPretrained(network, found.layers, accuracy, weights, shape, few), found.left_out)


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy on the processor, in evaluation mode; what is frozen in the network is so in the copy."""
    if not isinstance(model, nn.Module):
        raise ReLeQError(f"model={short(model)} is no network; give a torch.nn.Module")
    model = bare(model)
    if lazy := [name for name, each in model.named_parameters() if isinstance(each, nn.UninitializedParameter)]:
        raise ReLeQError(f"{lazy[0]!r} of the network has no shape yet; run the network once before")
    kinds = {each.dtype for each in model.parameters() if each.is_floating_point() or each.is_complex()}
    if kinds - {torch.float32}:
        raise ReLeQError(f"the network has parameters of type {(kinds - {torch.float32}).pop()}; give model.float()")
    try:
        with torch.no_grad():
            network = without_strides(copy.deepcopy(model).cpu().eval())
    except Exception as error:  # whatever its parts raise
        raise ReLeQError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}); keep no tensors in it that "
            "are computed of its parameters"
        ) from error
    return network


def _thaw(network: nn.Module, found: Survey) -> None:
    """Let the weights of quantized layers be trained, in place: else a short retraining could not adapt to the bits."""
    for layer in found.layers:
        for name, parameter in network.get_submodule(layer.name).named_parameters():
            if name.startswith(("weight", "parametrizations.weight")):
                parameter.requires_grad_(True)


def _surveyed(network: nn.Module, few: Tensor, skip: Collection[str]) -> Survey:
    skip = (skip,) if isinstance(skip, str) else skip
    try:
        found = survey(network, few[:1], skip)
        if NOT_CALLED in found.left_out.values():  # perhaps for another input, as the experts of a mixture are
            with contextlib.suppress(Exception):  # that it takes one input only is said later
                found = survey(network, few, skip)
    except ReLeQError:
        raise
    except Exception as error:  # whatever a network raises
        raise ReLeQError(
            f"{type(network).__name__} cannot be run on an input of shape {tuple(few.shape[1:])} and type "
            f"{few.dtype} ({type(error).__name__}: {error}); give data as the network takes them"
        ) from error
    if not found.layers:
        name, reason = next(iter(found.left_out.items()))
        raise ReLeQError(f"no layer of {type(network).__name__} can be quantized: {name or 'the network'}: {reason}")
    return found


@pinned_arithmetic()
def _check_batches(network: nn.Module, few: Tensor, expected: Layout, name: str) -> None:
    with torch.no_grad():
        try:
            outputs, layout = parts_of(network(few), f"what {name} returns")
            again, _ = parts_of(network(few), f"what {name} returns")
        except RuntimeError as error:
            raise ReLeQError(
                f"{name} cannot be run on {len(few)} inputs at once ({error}); let it take a batch"
            ) from error
    if layout != expected or any(len(each) != len(few) for each in outputs):
        shapes = ", ".join(str(tuple(each.shape)) for each in outputs)
        raise ReLeQError(
            f"{name} returns {shapes} for {len(few)} inputs; let every output have one row an input, batch first"
        )
    if not all(torch.allclose(one, other, 0.0, 0.0, equal_nan=True) for one, other in zip(outputs, again, strict=True)):
        raise ReLeQError(
            f"{name} returns something else each time for the same inputs; in evaluation mode it may draw nothing (has "
            "F.dropout its training=self.training?)"
        )


def _checked_functions(
    loss: Callable[[Any, Any], Any] | None,
    metric: Callable[[Any, Any], Any] | None,
    network: nn.Module,
    few: Tensor,
    layouts: tuple[Layout, Layout],
    parts: tuple[Examples, Examples],
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], float]]:
    """Return loss and metric of what the engine knows: one tensor of outputs and one of targets."""
    loss = F.cross_entropy if _is_plain_cross_entropy(loss) else loss
    if loss in (None, F.cross_entropy) and metric in (None, top1_accuracy):
        _check_classes(layouts, parts)
        return F.cross_entropy, top1_accuracy
    outputs, targets = layouts
    if metric is None and _why_no_classes(layouts, parts) is None:
        metric = top1_accuracy  # of a classifier with a loss of its own
    if loss is None or metric is None:
        missing, given = ("loss", "metric") if loss is None else ("metric", "loss")
        raise ReLeQError(
            f"{given}= was given without {missing}=; give both, the metric larger where it is better and in (0, 1]: "
            "accuracy, R2, IoU, or 1 / (1 + error)"
        )
    several = outputs.several or targets.several
    of_batch: Any = Separated(loss, outputs, targets) if several else loss
    of_all: Any = Separated(metric, outputs, targets) if several else metric
    with pinned_arithmetic():
        predicted = network(few).float()
        try:
            value = of_batch(predicted, parts[0].targets[: len(few)])
            fine = isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad
        except Exception as error:  # whatever a loss raises
            raise ReLeQError(f"loss= fails on the first examples ({type(error).__name__}: {error})") from error
    if not fine:
        raise ReLeQError(f"loss= gives {short(value)}; let it return one number, with a gradient to the outputs")
    return of_batch, top1_accuracy if metric is top1_accuracy and not several else FromZero(of_all)


def _is_plain_cross_entropy(loss: Any) -> bool:
    """Whether it is torch's module with nothing but defaults, which is the function."""
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None:
        return False
    plain = nn.CrossEntropyLoss()
    return all(getattr(loss, name) == getattr(plain, name) for name in ("ignore_index", "reduction", "label_smoothing"))


def _check_classes(layouts: tuple[Layout, Layout], parts: tuple[Examples, Examples]) -> None:
    if why := _why_no_classes(layouts, parts):
        raise ReLeQError(why)


def _why_no_classes(layouts: tuple[Layout, Layout], parts: tuple[Examples, Examples]) -> str | None:
    """Return in words why outputs and targets are not those of a classifier; `None` if they are."""
    outputs, targets = layouts
    classes = outputs.shape[0] if len(outputs.shape) == 1 else 0
    whole = targets.dtype in (torch.int64, torch.uint8) and targets.shape == () and not targets.several
    if outputs.several or not whole or not all(_within(part.targets, classes) for part in parts):
        shapes = " and ".join(f"(N, {', '.join(map(str, leaf.shape))})" for leaf in outputs.leaves)
        of_targets = " and ".join(f"{leaf.dtype} (N, {', '.join(map(str, leaf.shape))})" for leaf in targets.leaves)
        return (
            f"outputs {shapes} and targets {of_targets} are not those of a classifier (N, classes) and int64 (N,) "
            "below the number of classes; give loss= and metric="
        )
    return None


def _within(labels: Tensor, classes: int) -> bool:
    return 0 <= int(labels.min()) <= int(labels.max()) < classes


@pinned_arithmetic()
def _score(task: Task, network: nn.Module, examples: Examples) -> float:
    """Return the metric of a network in float32."""
    with torch.no_grad():
        batches = map(task.dataset.normalize, examples.inputs.split(_MEASURING_BATCH))
        outputs = torch.cat([network(batch.contiguous()).float() for batch in batches])
        return float(task.metric(outputs, examples.targets))


def _state_sha256(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if isinstance(tensor, Tensor):
            plain = tensor.detach().contiguous().flatten().view(torch.uint8)
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(plain.numpy().data)
    return digest.hexdigest()
