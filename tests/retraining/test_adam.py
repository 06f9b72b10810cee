"""The optimizer: torch's, bit for bit, without torch's compiler."""

from collections.abc import Callable

import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.retraining.adam import Adam


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchs(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    start = [torch.randn(4, 3, 5, 5).to(memory_format=layout), torch.randn(7), torch.randn(()), torch.randn(2, 2)]
    ours, theirs = ([each.clone().requires_grad_() for each in start] for _ in range(2))
    mine = Adam([{"params": ours[:2], "lr": 1e-2}, {"params": ours[2:], "lr": 1e-3}])
    reference = torch.optim.Adam([{"params": theirs[:2], "lr": 1e-2}, {"params": theirs[2:], "lr": 1e-3}], fused=True)
    for step in range(20):
        used = 3 if step < 5 else 4  # the last one has no gradient at first
        for parameters in (ours, theirs):
            sum((each.sin() * (step + 1)).sum() for each in parameters[:used]).backward()  # type: ignore[union-attr]
        for optimizer in (mine, reference):
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            optimizer.step()
            optimizer.zero_grad()
        assert all(each.grad is None for each in ours)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    for one, other in zip(ours, theirs, strict=True):
        for name, value in reference.state[other].items():
            assert torch.equal(mine.state[one][name], value)
            assert mine.state[one][name].stride() == value.stride()


def test_measuring_needs_no_compiler(python: Callable[..., str]) -> None:
    """Importing it takes seconds, in every worker."""
    code = """
import sys
from releq_env import Problem

problem = Problem.from_task("digits", retrain_images=64, cache=None, workers=1)
problem.evaluator.evaluate((2, 3, 4, 5))
print([name for name in ("torch._dynamo", "torch._inductor", "torchvision") if name in sys.modules])
"""
    assert python(code).strip() == "[]"


def test_sparse_gradients_are_refused_in_one_line() -> None:
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ReLeQError, match="give the embedding sparse=False"):
        Adam([{"params": embedding.parameters(), "lr": 1e-3}]).step()
