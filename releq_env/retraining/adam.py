"""Adam as torch computes it, at once in a fresh process."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from releq_env.errors import ReLeQError


class Adam:
    """Torch's fused Adam with its default settings (Kingma and Ba, 2015), to the last bit.

    `torch.optim.Adam` imports torch's compiler when the first one is made: two seconds of every worker, for nothing.

    Args:
        groups: Each with `params` and their learning rate `lr`.

    Raises:
        ReLeQError: At a step, if a gradient is sparse.

    Attributes:
        param_groups: The groups; `lr` may be changed between steps.
        state: By parameter `step` and the moments `exp_avg` and `exp_avg_sq`; nothing until it has had a gradient.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.param_groups = [{**group, "params": list(group["params"])} for group in groups]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self.state[parameter] or self._begun(parameter) for parameter in parameters]
            adam(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=group["lr"],
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _begun(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise ReLeQError("sparse gradients cannot be trained with; give the embedding sparse=False")
        state = self.state[parameter]
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.zeros_like(parameter)  # in its layout
        return state
