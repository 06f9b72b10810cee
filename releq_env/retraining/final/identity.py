"""What the result of a final retraining depends on, JSON-able: so that nothing kept on disk is taken for another."""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from releq_env.devices import instruction_set
from releq_env.quantization import QUANTIZERS
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks.final import CONTROL_IGNORES, FinalRecipe

FINAL_VERSION = 2
"""Raised whenever the same inputs would give another network, so that what is kept on disk is not mixed."""

_MARKS: list[tuple[tuple[Any, ...], str]] = []


def asked(
    engine: ShortRetraining,
    recipe: FinalRecipe,
    teacher: Sequence[str] | None,
    bitwidths: Sequence[int] | None,
    rate: float,
    seed: int,
) -> dict[str, Any]:
    """Return what a retraining's result depends on, but for the kind of processor and torch's version.

    Where loss, metric or quantizer cannot be told from others, a mark stands for them that no other process has.

    Args:
        engine: Gives network, data, quantizer and precision.
        recipe: With the epochs of the retraining proper.
        teacher: What tells it from others, see `FinalTeacher.identity`.
        bitwidths: One a layer, or `None` for full precision.
        rate: Learning rate.
        seed: Of order and augmentation.
    """
    task, known = engine.task, engine.fingerprint
    if known is None:
        mark = _mark((task.loss, task.metric, task.distillation, QUANTIZERS[engine.quantizer]))
        data = {"data": task.dataset.fingerprint(engine.data_root), "cache_key": task.cache_key}
        known = {"task": data | {"functions": mark}, "network": engine.pretrained.identity}
    unused = ("control_rates", *(CONTROL_IGNORES if bitwidths is None else ()))
    return {
        "version": FINAL_VERSION,
        **{name: known[name] for name in ("task", "network")},
        "teacher": teacher,
        "recipe": {name: value for name, value in dataclasses.asdict(recipe).items() if name not in unused},
        "quantizer": None if bitwidths is None else known.get("quantizer", engine.quantizer),
        "bitwidths": None if bitwidths is None else [int(bits) for bits in bitwidths],
        "layers": None if bitwidths is None else [layer.name for layer in engine.pretrained.layers],
        "learning_rate": float(rate),
        "seed": int(seed),
        **_arithmetic(engine),
    }


def place(engine: ShortRetraining) -> dict[str, str]:
    """Return where a result is from: the machine's part of what it depends on."""
    return {
        "torch": torch.__version__,
        **_arithmetic(engine),
        "instructions": instruction_set(engine.device),
        "threads": "1",
    }


def digest(asked: Mapping[str, Any]) -> str:
    """Return a short name for what is asked for."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _arithmetic(engine: ShortRetraining) -> dict[str, str]:
    return {"precision": str(engine.dtype).removeprefix("torch."), "device": engine.device.type}


def _mark(functions: tuple[Any, ...]) -> str:
    """Return a random mark of functions, the same for the same ones; another process gives them another one."""
    for known, mark in _MARKS:
        if known == functions:
            return mark
    _MARKS.append((functions, uuid.uuid4().hex))
    return _MARKS[-1][1]
