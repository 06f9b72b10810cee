"""The source of a user's own network: what is not given is found, and said in a line."""

import contextlib
import copy
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from releq_env.arithmetic import pinned_arithmetic
from releq_env.choices import Choices
from releq_env.devices import resolve_device, resolve_precision
from releq_env.errors import ReLeQError, short
from releq_env.evaluation.grouped import GroupedSource, grouped
from releq_env.evaluation.live import LiveSource, check_way
from releq_env.files import replace_file
from releq_env.quantization import QUANTIZERS
from releq_env.quantization.layers import SharedWeight
from releq_env.retraining.probe import Found, by_recipe, find_recipe
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining, check_arguments
from releq_env.seeds import Seed
from releq_env.tasks import PretrainingRecipe, RetrainingRecipe
from releq_env.tasks.own import FromZero, OwnNetwork, own_network, trained
from releq_env.tasks.own_data import OwnData
from releq_env.tasks.own_outputs import Separated
from releq_env.tasks.task import top1_accuracy

_WORSE = 2e-3  # of the metric, that bf16 may cost
_FOUND: dict[tuple[Any, ...], Found] = {}


@dataclass(frozen=True)
class Own:
    """What is known of a user's own network.

    Attributes:
        left_out: What of it is not quantized, by the names of its modules and parameters, with the reason.
        recipe: Of the short retraining.
        found: How the recipe was found; `None` where it was given.
    """

    left_out: dict[str, str]
    recipe: RetrainingRecipe
    found: Found | None


def check_own(
    quantizer: str,
    retraining: object,
    seconds: object,
    pretraining: object,
    retrain_seed: Seed,
    device: str,
    precision: str,
    parallel: str,
    workers: int | None,
) -> None:
    """Check arguments of `own_source`, before the data are read.

    Raises:
        ReLeQError: If one is not accepted.
    """
    check_arguments(quantizer, None, retrain_seed, device, precision)
    check_way(parallel, workers, quantizer)
    if retraining is not None and not isinstance(retraining, RetrainingRecipe):
        raise ReLeQError(
            f"retraining={short(retraining)} is no recipe; give releq_env.tasks.RetrainingRecipe(images=...)"
        )
    if pretraining is not None and not isinstance(pretraining, PretrainingRecipe):
        raise ReLeQError(
            f"pretraining={short(pretraining)} is no recipe; give releq_env.tasks.PretrainingRecipe(epochs=...)"
        )
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0.0 < float(seconds) < float("inf"):
        raise ReLeQError(f"seconds={short(seconds)} is not accepted; give a number above 0")


def own_source(
    model: Any,
    train_data: Any,
    validation_data: Any,
    *,
    groups: Any = (),
    quantizer: str = "lsq",
    decide: Callable[[GroupedSource | LiveSource], tuple[Choices, Path | None]],
    retraining: RetrainingRecipe | None = None,
    seconds: float = 10.0,
    retrain_seed: Seed = 0,
    device: str = "cpu",
    precision: str = "auto",
    parallel: str = "processes",
    workers: int | None = None,
    **network: Any,
) -> tuple[GroupedSource | LiveSource, Own]:
    """Return the live source of a network.

    Args:
        model: See `own_network`.
        train_data: See there.
        validation_data: See there.
        groups: See `grouped`.
        quantizer: A name in `releq_env.quantization.QUANTIZERS`.
        decide: Called with the source, not trained yet, before anything that takes time. It returns the bitwidths
            of each decision, and the folder that a recipe is kept in, so that a resumed run has the same; `None`:
            in memory.
        retraining: The short recipe; `None`: it is found.
        seconds: How long an evaluation may take, about, where it is found.
        retrain_seed: Seeds the order of the examples.
        device: `"cpu"`, `"cuda"`, `"cuda:N"` or `"auto"`.
        precision: `"auto"`, `"fp32"` or `"bf16"`; `"auto"` is fp32 where bf16 changes the metric.
        parallel: See `LiveSource`.
        workers: See there.
        **network: Of `own_network`.

    Raises:
        ReLeQError: If something is not accepted.
    """
    own = own_network(model, train_data, validation_data, **network)
    _check_shared(own, parallel)
    _check_files(own, parallel, device)
    given = ShortRetraining(own.task, own.pretrained, quantizer, 0, retrain_seed, None, device, "fp32")
    source = grouped(LiveSource(given, parallel, workers), groups)
    choices, recipes = decide(source)
    _say(_layers_line(own, source))
    own = trained(own, network.get("skip", ()))
    _say_if_untrained(own)
    given = ShortRetraining(
        own.task, own.pretrained, quantizer, 0, retrain_seed, None, device, _precision(own, given, device, precision)
    )
    found = None
    if retraining is None:
        middle = tuple(of_layer[(len(of_layer) - 1) // 2] for of_layer in choices)
        whole = source.every_layer(middle) if isinstance(source, GroupedSource) else middle
        found = _found(given, whole, seconds, recipes)
        _say(f"{own.task.name}: {found}")
        retraining = found.recipe
    live = LiveSource(by_recipe(given, retraining), parallel, workers)
    if live.fingerprint is None:
        _say(
            f"{own.task.name}: accuracies are kept in memory only, because loss or metric are not torch's; give "
            "cache_key= a name that stands for them"
        )
    return grouped(live, groups), Own(own.left_out, retraining, found)


def _check_shared(own: OwnNetwork, parallel: str) -> None:
    if parallel == "stacked" and any(isinstance(reason, SharedWeight) for reason in own.left_out.values()):
        raise ReLeQError('parallel="stacked" knows no weights that modules share; use parallel="processes"')


def _check_files(own: OwnNetwork, parallel: str, device: str) -> None:
    """Say which data are in files, or refuse them where each evaluation needs all in its own memory."""
    dataset = own.task.dataset
    if not isinstance(dataset, OwnData) or not dataset.in_files:
        return
    given = 'parallel="ray"' if parallel == "ray" else f"device={device!r}"
    if parallel == "ray" or resolve_device(device).type != "cpu":
        raise ReLeQError(
            f"{given} needs the data in memory, and they are more than data_limit=; give a larger one, or "
            'parallel="processes" and device="cpu"'
        )
    for part, path in dataset.in_files.items():
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        _say(f"{own.task.name}: {part} is more than data_limit=, and is kept in {path.parent} meanwhile: {_size(size)}")


def _size(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"


def _layers_line(own: OwnNetwork, source: GroupedSource | LiveSource) -> str:
    quantized = sum(layer.weights for layer in source.layers)
    total = sum(parameter.numel() for parameter in own.pretrained.network.parameters())
    line = f"{own.task.name}: {len(source.layers)} layers with {quantized:,} of {total:,} parameters are quantized"
    if not own.left_out:
        return line
    shown = [f"{name} ({reason})" for name, reason in own.left_out.items()]
    more = f", and {len(shown) - 4} more" if len(shown) > 4 else ""
    return f"{line}; not of their own: {', '.join(shown[:4])}{more}"


def _say_if_untrained(own: OwnNetwork) -> None:
    """Say if a classifier is no better than naming one class throughout: nothing can be learned about its bits then."""
    if own.task.metric is not top1_accuracy:
        return
    targets = own.task.dataset.load()[1].targets
    most = int(targets.bincount().max()) / len(targets)
    if own.pretrained.accuracy <= most < 1.0:
        longer = own.task.pretraining.epochs > 0
        mend = "give pretraining= more epochs, or another rate" if longer else "train it, or give pretraining="
        _say(
            f"{own.task.name}: its accuracy in full precision is {own.pretrained.accuracy:.4f} on the validation data, "
            f"where one class alone has {most:.4f}: it seems not to be trained; {mend}"
        )


def _precision(own: OwnNetwork, retraining: ShortRetraining, device: str, precision: str) -> str:
    """Return bf16 where it was left open, the processor has it and the network's metric stays what it is."""
    if precision != "auto":
        return precision
    if resolve_precision("auto", resolve_device(device)) != torch.bfloat16:
        return "fp32"
    other = ShortRetraining(own.task, own.pretrained, retraining.quantizer, 0, 0, None, device, "bf16")
    try:
        with pinned_arithmetic(), torch.no_grad():
            data = other.load()
            network = copy.deepcopy(own.pretrained.network).to(other.device)
            outputs = [other.outputs(network, inputs) for inputs in data.validation_inputs.split(INFERENCE_BATCH)]
            accuracy = other.accuracy(torch.cat(outputs), data)
        why = f"changes its accuracy from {own.pretrained.accuracy:.4f} to {accuracy:.4f}"
        allowed = max(_WORSE, 2.0 / len(data.validation_targets))  # rounding turns an example or two
        fine = abs(accuracy - own.pretrained.accuracy) <= allowed
    except (RuntimeError, TypeError, ValueError) as error:  # what torch and a network raise
        why, fine = f"is not for this network ({error})", False
    if not fine:
        _say(f"{own.task.name}: computed in fp32, since bf16 {' '.join(why.split())}")
    return "bf16" if fine else "fp32"


def _found(retraining: ShortRetraining, assignment: tuple[int, ...], seconds: float, recipes: Path | None) -> Found:
    """Return the recipe of a network: what was found before, for the same, is found again.

    Of loss and metric without a `cache_key` their names do not tell: it is kept in memory, for the same functions.
    """
    known, task = retraining.fingerprint, retraining.task
    asked: dict[str, Any] = {name: value for name, value in (known or {}).items() if name not in ("retraining", "task")}
    asked |= {"network": retraining.pretrained.identity, "data": task.dataset.fingerprint(), "seconds": float(seconds)}
    asked |= {"quantizer": retraining.quantizer, "assignment": list(assignment), "precision": str(retraining.dtype)}
    asked |= retraining.named_layers
    functions = [_given(getattr(task, name)) for name in ("loss", "metric", "distillation")]
    asked |= {"functions": list(map(_named, functions))}
    asked |= {"cache_key": task.cache_key, "rate": QUANTIZERS[retraining.quantizer].learning_rate}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    if recipes is None or known is None:
        kept = _FOUND if all(isinstance(each, Hashable) for each in functions) else {}
        if (key, *functions) not in kept:
            kept[key, *functions] = find_recipe(retraining, assignment, seconds)
        return kept[key, *functions]
    path = recipes / f"{task.name}-{key}.json"
    lock = FileLock(path.with_suffix(".lock"))
    with _keeping(recipes):
        recipes.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:  # several processes look for it once
        with _keeping(recipes):
            found = _read(path)
        if found is not None:
            return found
        found = find_recipe(retraining, assignment, seconds)  # what it calls may fail for reasons of its own
        with _keeping(recipes):
            replace_file(path, json.dumps(found.described(), indent=2) + "\n")
        return found
    finally:
        lock.release()


def _read(path: Path) -> Found | None:
    """Return the recipe in a file; `None` if there is none, or a damaged one, which is removed."""
    if not path.exists():
        return None
    try:
        return Found.read(json.loads(path.read_text()))
    except (OSError, ValueError):
        path.unlink(missing_ok=True)
        return None


@contextlib.contextmanager
def _keeping(recipes: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReLeQError(
            f"the recipe cannot be kept in {recipes} ({error}); give another cache=, or cache=None for memory only"
        ) from error


def _given(function: Any) -> Any:
    """Return a function as the user gave it."""
    function = function.metric if isinstance(function, FromZero) else function
    return function.function if isinstance(function, Separated) else function


def _named(function: Any) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _say(line: str) -> None:
    """Print a line for the person who waits, once: not in worker processes."""
    if multiprocessing.parent_process() is None:
        print(line, file=sys.stderr, flush=True)
