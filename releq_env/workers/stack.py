"""Several candidates as one model: their weights stacked, the inputs shared."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.quantization import QUANTIZERS
from releq_env.quantization.base import per_candidate
from releq_env.retraining.data import Data, channels_last
from releq_env.retraining.distillation import distilled_loss
from releq_env.retraining.rates import rate_factor
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining
from releq_env.seeds import Seed, each_seed


def measure_stack(
    retraining: ShortRetraining, assignments: Sequence[tuple[int, ...]], retrain_seed: Seed, data: Data
) -> list[float]:
    """Retrain and measure assignments as one stack.

    Args:
        retraining: What is done with each.
        assignments: K of them.
        retrain_seed: Seeds the order of the images, the same for all.
        data: What is trained and validated on.

    Returns:
        K validation accuracies, each the mean over the seeds.

    Raises:
        ReLeQError: If an assignment is not accepted, or the network cannot be stacked.
    """
    for assignment in assignments:
        retraining.check(assignment)
    try:
        with pinned_arithmetic(), _attention_with_gradients():
            seeds = each_seed(retrain_seed) if retraining.retrain_images else (0,)
            by_seed = [_measured(retraining, assignments, seed, data) for seed in seeds]
            return [sum(accuracies) / len(accuracies) for accuracies in zip(*by_seed, strict=True)]
    except (torch.OutOfMemoryError, ReLeQError):
        raise
    except Exception as error:  # vmap raises whatever the operation it does not know raises
        network = type(retraining.pretrained.network).__name__
        raise ReLeQError(
            f'{network} cannot be evaluated as a stack ({type(error).__name__}: {error}); use parallel="processes"'
        ) from error


def _measured(
    retraining: ShortRetraining, assignments: Sequence[tuple[int, ...]], retrain_seed: int, data: Data
) -> list[float]:
    stack = Stack(retraining, assignments)
    stack.recalibrate(retraining.calibration())
    if retraining.retrain_images:
        retraining.descend(stack.groups, stack.loss, data, retrain_seed, stack.slowed)
    return stack.accuracies(data)


class Stack:
    """K copies of the pre-trained network, the weights of each quantized to its own assignment.

    Every trained tensor gets a first dimension K; `torch.vmap` runs the network over it, which makes
    grouped convolutions and batched matrix products of its layers. No candidate's numbers enter
    another's, and Adam works element by element: each is retrained as it would be alone.

    Args:
        retraining: Network, recipe and arithmetic.
        assignments: K assignments.

    Attributes:
        groups: What is trained, tensors of shape `(K, ...)`, as an optimizer's parameter groups.
        slowed: Those whose candidates learn at rates of their own, with what their group's is multiplied by.

    Raises:
        ReLeQError: If an assignment is not accepted.
    """

    def __init__(self, retraining: ShortRetraining, assignments: Sequence[tuple[int, ...]]) -> None:
        self._retraining = retraining
        self._count = len(assignments)
        bitwidths = list(zip(*assignments, strict=True))  # of all candidates, layer by layer
        # Not accelerated: those layers are for the processor, and know nothing of stacks.
        self._network = copy.deepcopy(retraining.pretrained.network).to(retraining.device).eval()
        layers = {layer.name: self._network.get_submodule(layer.name) for layer in retraining.pretrained.layers}
        self._stacks, self._in_layers = self._stacked_parameters(set(layers.values()))
        quantizer = QUANTIZERS[retraining.quantizer]
        self._quantizers = {
            f"{name}.weight": quantizer.make_stacked(self._stacks[f"{name}.weight"], bits)
            for name, bits in zip(layers, bitwidths, strict=True)
        }
        rate = retraining.learning_rate
        trained = {id(stack): stack for stack in self._stacks.values() if stack.requires_grad}
        self.groups: list[dict[str, Any]] = [{"params": list(trained.values()), "lr": rate}]
        for each in self._quantizers.values():
            own = getattr(each, "own_rate", None)
            if own_parameters := list(each.parameters()):
                self.groups.append({"params": own_parameters, "lr": rate if own is None else own})
        self.slowed = self._slowed(layers, bitwidths)
        self._norms = {
            name: module
            for name, module in self._network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        }
        self._statistics: dict[str, Tensor] = {}
        for layer in layers.values():
            layer.register_forward_pre_hook(_to_type_of_weight)
        for norm in self._norms.values():
            norm.forward = partial(_in_float, norm.forward)  # type: ignore[method-assign]  # of this copy only

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Re-estimate the statistics of batch normalisation, if there is any, with quantized weights.

        Args:
            batches: Inputs; each batch counts the same.
        """
        for name, norm in self._norms.items():
            for statistic in ("running_mean", "running_var"):
                buffer = norm.get_buffer(statistic)
                self._statistics[f"{name}.{statistic}"] = buffer.expand(self._count, *buffer.shape).clone()
            norm.train()
        if self._norms:
            state = self._state(torch.float32)
            for number, batch in enumerate(map(Tensor.float, batches), start=1):
                for norm in self._norms.values():
                    norm.momentum = 1.0 / number  # a cumulative average
                self._outputs(state, batch)
        for norm in self._norms.values():
            norm.eval()

    def loss(self, inputs: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
        """Return the sum of the candidates' losses; each one's gradient is that of its own."""
        with self._retraining.autocast():
            outputs = self._outputs(self._state(self._retraining.dtype), inputs)
        loss = distilled_loss(self._retraining.task)
        losses: Tensor = torch.vmap(lambda each: loss(each, targets, teacher))(outputs.float())
        return losses.sum()

    @torch.no_grad()
    def accuracies(self, data: Data) -> list[float]:
        """Return K accuracies on validation."""
        with self._retraining.autocast():
            state = self._state(self._retraining.dtype)
            outputs = [
                self._outputs(state, channels_last(inputs)) for inputs in data.validation_inputs.split(INFERENCE_BATCH)
            ]
        return [self._retraining.accuracy(candidate.float(), data) for candidate in torch.cat(outputs, dim=1)]

    def _slowed(
        self, layers: dict[str, nn.Module], bitwidths: Sequence[tuple[int, ...]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return what belongs to a layer whose candidates do not all learn at the full rate, with the factors."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for (name, layer), bits in zip(layers.items(), bitwidths, strict=True):
            quantizer = self._quantizers[f"{name}.weight"]
            for parameter_name, _ in layer.named_parameters(name):
                stack = self._stacks[parameter_name]
                factors = [rate_factor(each, getattr(quantizer, "slower", False)) for each in bits]
                if stack.requires_grad:  # where layers share it, by the first of them
                    found.setdefault(id(stack), (stack, per_candidate(factors, stack)))
        return [(stack, factors) for stack, factors in found.values() if (factors != 1.0).any()]

    def _stacked_parameters(self, layers: set[nn.Module]) -> tuple[dict[str, Tensor], list[str]]:
        """Return K copies of all that is trained or belongs to a quantized layer, by name; and the latter's names.

        Where two modules share a parameter their copies are the same tensor.
        """
        copies: dict[Tensor, Tensor] = {}
        stacks, in_layers = {}, []
        for prefix, module in self._network.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if not parameter.requires_grad and module not in layers:
                    continue
                if parameter not in copies:
                    stack = parameter.detach().expand(self._count, *parameter.shape).clone()
                    copies[parameter] = stack.contiguous().requires_grad_(parameter.requires_grad)
                stacks[name] = copies[parameter]
                if module in layers:
                    in_layers.append(name)
        return stacks, in_layers

    def _state(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return everything that is stacked, weights quantized, by name; quantized layers in the given type."""
        state = dict(self._stacks)
        for name, quantizer in self._quantizers.items():
            state[name] = quantizer(state[name])
        for name in self._in_layers:  # here, because autocast does not reach all convolutions inside vmap
            state[name] = state[name].to(dtype)
        return state | self._statistics

    def _outputs(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """Return what the candidates make of inputs, shape `(K, N, ...)`."""
        outputs: Tensor = torch.vmap(self._candidate, in_dims=(0, None))(state, inputs)
        return outputs

    def _candidate(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        # Shared parameters have all their names in the state: they may be quantized to different bitwidths.
        outputs: Tensor = functional_call(self._network, state, (inputs,), tie_weights=False)
        return outputs


@contextlib.contextmanager
def _attention_with_gradients() -> Iterator[None]:
    """Keep attention from a kernel without gradients: it does not see inside vmap that they are needed."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _in_float(norm: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Normalise in float32, as outside vmap; inside it statistics must be of the type of what is normalised."""
    return norm(images.float()).to(images.dtype)


def _to_type_of_weight(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return tuple(tensor.to(weight.dtype) for tensor in inputs)
