"""What every cost model has to keep to."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from releq_env.cost import COSTS
from releq_env.decision import Decision
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from releq_env.testing.problems import FULL_PRECISION, LAYERS, feasible, needs_bits


class CostContract:
    """Subclass it in a test module under a name that begins with `Test`, and override `cost`.

    Attributes:
        layers: The layers that it is asked about.
        choices: The bitwidths.
    """

    layers: Sequence[LayerInfo] = LAYERS
    choices: Sequence[int] = (1, 2, 4, 8)

    def cost(self, layer: LayerInfo, bits: int) -> float:
        """Return the cost of a layer at a bitwidth, in any unit."""
        raise NotImplementedError("return the cost of a layer at a bitwidth")

    @pytest.fixture
    def name(self) -> Iterator[str]:
        """Its name in the registry for the time of a test."""
        COSTS["of-the-contract"] = self.cost
        yield "of-the-contract"
        COSTS.pop("of-the-contract", None)

    def problem(self, name: str, **decision: Any) -> Problem:
        """Return a problem with this cost."""
        return Problem.from_function(
            len(self.layers), list(self.choices), needs_bits, FULL_PRECISION, self.layers, cost=name, **decision
        )

    def test_is_a_number_from_zero_and_always_the_same(self) -> None:
        for layer in self.layers:
            for bits in self.choices:
                cost = self.cost(layer, bits)
                assert math.isfinite(float(cost))
                assert float(cost) >= 0.0
                assert self.cost(layer, bits) == cost

    def test_q_is_a_share_of_the_dearest(self, name: str) -> None:
        problem = self.problem(name)
        shares = [problem.state_of_quantization(each) for each in feasible(problem)]
        assert all(0.0 < share <= 1.0 + 1e-12 for share in shares)
        assert max(shares) == pytest.approx(1.0)
        assert min(shares) == pytest.approx(problem.cheapest)
        assert min(shares) < 1.0  # else there is nothing to search for

    def test_q_is_the_sum_of_the_layers(self, name: str) -> None:
        problem = self.problem(name)
        dearest = sum(max(self.cost(layer, bits) for bits in self.choices) for layer in self.layers)
        for assignment in feasible(problem)[::17]:
            cost = sum(self.cost(layer, bits) for layer, bits in zip(self.layers, assignment, strict=True))
            assert problem.state_of_quantization(assignment) == pytest.approx(cost / dearest)

    def test_masks_keep_a_bound(self, name: str) -> None:
        cheapest = self.problem(name).cheapest
        problem = self.problem(name, max_cost=min(cheapest + 0.3 * (1.0 - cheapest), 1.0))
        decision, generator = Decision(problem, "episode", "flexible", "paper"), np.random.default_rng(0)
        for _ in range(30):
            choices = decision.start
            for step in range(decision.episode_steps):
                open_actions = np.flatnonzero(decision.masks([step], choices[None])[0])
                choices = decision.after(step, choices, int(generator.choice(open_actions)))
            assert problem.keeps_max_cost(decision.bitwidths(choices).tolist())
