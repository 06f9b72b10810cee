import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator, Source
from releq_env.evaluation.live import LiveSource, live_source
from releq_env.quantization import QUANTIZERS
from releq_env.tasks import TASKS
from releq_env.workers.waiting import Measured, Waiting
from tests.fakes import random_dataset

ASSIGNMENTS = [(1, 1, 1, 1), (2, 2, 2, 2)]


def test_it_is_a_source_that_takes_what_waits() -> None:
    source = live_source("digits", retrain_images=32, retrain_seed=3)
    assert isinstance(source, Source)
    assert 0.9 < source.full_precision_accuracy <= 1.0
    assert source.retrain_seed == 3
    waiting = Waiting([*ASSIGNMENTS, (3, 3, 3, 3)], found=lambda assignment: assignment == (2, 2, 2, 2))
    results = dict(source.measure(waiting))
    assert list(results) == [(1, 1, 1, 1), (3, 3, 3, 3)]
    assert all(isinstance(measured, Measured) and measured.seconds > 0.0 for measured in results.values())
    assert results[1, 1, 1, 1].accuracy == source.retraining.measure((1, 1, 1, 1))[0]
    source.close()
    source.close()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_layers_have_the_scales_that_are_stored(quantizer: str) -> None:
    layers = live_source(TASKS["digits"], quantizer=quantizer).layers
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert [layer.scales for layer in layers] == (
        [16, 32, 64, 10] if QUANTIZERS[quantizer].scales == "channel" else [1, 1, 1, 1]
    )


def test_a_reseeded_one_has_another_seed_and_key_and_the_same_workers() -> None:
    source = live_source("digits", retrain_images=320)
    other = source.reseeded(1)
    again = live_source("digits", retrain_images=320, retrain_seed=1)
    assert (source.retrain_seed, other.retrain_seed) == (0, 1)
    assert other.fingerprint == again.fingerprint != source.fingerprint
    assert dict(other.measure(Waiting(ASSIGNMENTS))).keys() == set(ASSIGNMENTS)
    assert [m.accuracy for _, m in other.measure(Waiting(ASSIGNMENTS))] == [
        m.accuracy for _, m in again.measure(Waiting(ASSIGNMENTS))
    ]
    assert other._pool is source._pool


def test_a_copy_for_another_process_measures_the_same() -> None:
    source = live_source("digits", retrain_images=32)
    expected = next(source.measure(Waiting(ASSIGNMENTS)))[1].accuracy
    copied: LiveSource = pickle.loads(pickle.dumps(source))
    assert copied.fingerprint == source.fingerprint
    assert next(copied.measure(Waiting(ASSIGNMENTS)))[1].accuracy == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "imagenet"}, "unknown task 'imagenet'; choose one of: digits"),
        ({"quantizer": "int4"}, "unknown quantizer 'int4'; choose one of: lsq, wrpn, dorefa"),
        ({"retrain_images": -1}, "retrain_images=-1 is not accepted"),
        ({"retrain_seed": 1.5}, "retrain_seed=1.5 is not accepted"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"parallel": "threads"}, "unknown parallel 'threads'"),
        ({"workers": 0}, "workers=0 is not accepted"),
    ],
)
def test_arguments_are_checked_before_anything_is_trained(arguments: dict[str, Any], message: str) -> None:
    arguments = {"task": "svhn"} | arguments  # its weights are not shipped, and there are no data
    with pytest.raises(ReLeQError, match=message) as raised:
        live_source(**arguments)
    assert "\n" not in str(raised.value)


def test_wrong_assignments_cost_nothing(tmp_path: Path) -> None:
    evaluator = Evaluator(live_source("digits", data_root=tmp_path))
    for bits in [(2, 2, 2), (2, 2, 2, 9), ()]:
        with pytest.raises(ReLeQError, match="^the assignment"):
            evaluator.evaluate_many([(2, 2, 2, 2), bits])
    assert evaluator.distinct_evaluations == 0


def test_other_data_of_one_name_have_another_key() -> None:
    tasks = [dataclasses.replace(TASKS["digits"], dataset=random_dataset(count=count)) for count in (80, 90)]
    pretrained = live_source("digits").retraining.pretrained
    retrainings = [live_source("digits").retraining for _ in tasks]
    for retraining, task in zip(retrainings, tasks, strict=True):
        retraining.task, retraining.pretrained = task, pretrained
    first, second = (LiveSource(retraining).fingerprint for retraining in retrainings)
    assert first is not None
    assert first != second


def test_what_nothing_tells_from_others_has_no_key() -> None:
    task = dataclasses.replace(TASKS["digits"], metric=lambda outputs, targets: 0.5)
    retraining = live_source("digits").retraining
    retraining.task = task
    assert LiveSource(retraining).fingerprint is None
