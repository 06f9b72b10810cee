"""The course of a short retraining."""

import dataclasses

import pytest

from releq_env.quantization import QUANTIZERS
from releq_env.retraining import short
from releq_env.retraining.adam import Adam
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, load_pretrained


@pytest.mark.parametrize("images", [1, 32, 800, 801, 2000])
@pytest.mark.parametrize("batch_size", [32, 300])
def test_learning_rate_falls_to_just_above_zero(images: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Spy(Adam):
        def step(self) -> None:
            rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(short, "Adam", Spy)
    task = TASKS["digits"]
    task = dataclasses.replace(task, retraining=dataclasses.replace(task.retraining, batch_size=batch_size))
    ShortRetraining(task, load_pretrained(task), retrain_images=images).measure((2, 2, 2, 2))
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == QUANTIZERS["lsq"].learning_rate
    assert rates[-1] == pytest.approx(rates[0] / len(rates))
