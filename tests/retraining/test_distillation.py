"""Learning from the full-precision network."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from releq_env.errors import ReLeQError
from releq_env.retraining import distillation
from releq_env.retraining.distillation import Teacher, distilled_loss, soft_cross_entropy
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, RetrainingRecipe, Task, load_pretrained

DIGITS = TASKS["digits"]


@pytest.fixture
def live() -> Callable[..., ShortRetraining]:
    """A short retraining of Digits."""

    def build(task: Task = DIGITS, **kwargs: Any) -> ShortRetraining:
        return ShortRetraining(task, load_pretrained(DIGITS), **kwargs)

    return build


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_cross_entropy_is_the_divergence_and_a_constant(temperature: float) -> None:
    outputs, teacher = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log, log_teacher = ((each / temperature).log_softmax(dim=1) for each in (outputs, teacher))
    divergence = functional.kl_div(log, log_teacher, reduction="batchmean", log_target=True)
    entropy = -(log_teacher.exp() * log_teacher).sum(dim=1).mean()
    torch.testing.assert_close(
        soft_cross_entropy(outputs, teacher, temperature), temperature**2 * (divergence + entropy)
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_recipes_share(share: float) -> None:
    task = replace(DIGITS, retraining=RetrainingRecipe(images=1, distillation=share))
    outputs, teacher = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(5)
    expected = (1 - share) * functional.cross_entropy(outputs, targets) + share * soft_cross_entropy(outputs, teacher)
    torch.testing.assert_close(distilled_loss(task)(outputs, targets, teacher), expected)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "all"])
def test_a_share_that_is_none(share: Any) -> None:
    with pytest.raises(ReLeQError, match=r"distillation=.* give a number from 0 to 1"):
        RetrainingRecipe(images=1, distillation=share)


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - functional.one_hot(targets, 10)).abs().mean()


def test_of_a_loss_of_ones_own_nothing_is_distilled_unless_told_how(live: Callable[..., Any]) -> None:
    own = replace(DIGITS, loss=absolute, cache_key="own")
    assert own.distilled == 0.0
    taught = replace(own, distillation=functional.mse_loss)
    assert taught.distilled == 0.5
    accuracies = [live(task, retrain_images=160).measure((2, 2, 2, 2))[0] for task in (own, taught)]
    assert accuracies[0] != accuracies[1]
    assert own.identity() != taught.identity()


def test_the_teacher_is_asked_once_for_each_input(live: Callable[..., Any]) -> None:
    inputs = torch.randn(70, 3)
    asked: list[Tensor] = []

    def outputs(given: Tensor) -> Tensor:
        asked.append(given)
        return 2.0 * given

    teacher = Teacher(outputs, batch=16)
    batches = [torch.tensor([5, 1, 60]), torch.tensor([1, 2]), torch.arange(70)]
    for chosen in (batches[:2], batches[:2], batches):
        taught = teacher.of(inputs, chosen, len(chosen))
        for batch in chosen:
            assert torch.equal(taught(batch), 2.0 * inputs[batch])
    assert sum(map(len, asked)) == 4 + 70
    assert max(map(len, asked)) == 16


def test_outputs_that_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "KEPT_BYTES", 100)
    inputs = torch.randn(70, 3)
    taught = Teacher(lambda given: 2.0 * given, batch=16).of(inputs, [torch.arange(70)], None)
    assert torch.equal(taught(torch.tensor([3, 69])), 2.0 * inputs[[3, 69]])


def test_an_accuracy_does_not_depend_on_what_was_measured_before(live: Callable[..., Any]) -> None:
    fresh = live(retrain_images=96, retrain_seed=1).measure((2, 1, 2, 3))[0]
    used = live(retrain_images=96)
    for seed in (0, 2, 3):
        used.measure((3, 3, 3, 3), seed)
    assert used.measure((2, 1, 2, 3), 1)[0] == fresh


def test_several_seeds_are_taught_once_each(live: Callable[..., Any]) -> None:
    retraining = live(retrain_images=96, retrain_seed=(0, 1, 2))
    kept = []
    for _ in range(2):
        retraining.measure((2, 2, 2, 2))
        kept.append({key: id(outputs) for key, (_, outputs) in retraining._teacher._kept.items()})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


def test_with_another_seed_nothing_is_derived_again(live: Callable[..., Any]) -> None:
    first = live(retrain_images=3200)  # more than there are: the outputs for all of them serve every seed
    accuracy = first.measure((2, 2, 2, 2), 1)[0]
    other = first.reseeded(1)
    assert other.measure((2, 2, 2, 2))[0] == accuracy
    assert other.load() is first.load()
    assert other._teacher is first._teacher
    assert len(first._teacher._kept) == 1
