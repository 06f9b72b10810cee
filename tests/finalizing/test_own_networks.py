"""Networks of one's own of every kind are finalized."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from releq_env import FinalRecipe, Problem, ReLeQError, finalize
from releq_env.tasks import RetrainingRecipe
from tests.tasks.own_networks import CASES

RECIPE = FinalRecipe(epochs=2, batch_size=16, control_rates=(1e-3,), warm_start=1, average=0.5)


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_finalized(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, training, validation = case.made()
    more = {"retraining": RetrainingRecipe(0), "cache": None, "workers": 1}
    problem = Problem.from_network(model, training, validation, **case.arguments | more)
    bitwidths = (2, 3, 4, 3, 2)[: problem.num_layers]
    result = finalize(problem, bitwidths, seeds=(0,), recipe=RECIPE, folder=tmp_path, progress=False)
    assert result.measured_on == "validation"
    assert set(case.layers) <= set(result.layers)
    assert 0.0 <= result.accuracies[0] <= 1.0
    assert result.packed_bytes <= result.file_bytes < result.full_precision_bytes + 8192
    with torch.no_grad():
        expected, outputs = model(training[0][:3]), result.network(training[0][:3])
    assert type(outputs) is type(expected)
    if isinstance(outputs, torch.Tensor):
        assert outputs.shape == expected.shape
    again = finalize(problem, bitwidths, seeds=(0,), recipe=RECIPE, folder=tmp_path, progress=False)
    assert again == result


def test_what_cannot_be_augmented_is_refused(tmp_path: Path) -> None:
    model, training, validation = CASES["signals"].made()
    problem = Problem.from_network(model, training, validation, retraining=RetrainingRecipe(0), cache=None, workers=1)
    with pytest.raises(ReLeQError, match=r"inputs of shape \(2, 16\) cannot be mirrored or shifted"):
        finalize(problem, (2, 2), recipe=replace(RECIPE, shift=1), folder=tmp_path / "final", progress=False)
    assert not (tmp_path / "final").exists()
