"""Discovery of a network's quantizable layers."""

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError, short
from releq_env.layer_info import LayerInfo
from releq_env.quantization.registry import QUANTIZERS

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NOT_CALLED = "is not called"
QUANTIZABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.Linear, nn.Embedding)


class Skipped(str):
    """A reason in `Survey.left_out`: it is to be skipped. Words are for people; code asks for the kind."""


class SharedWeight(str):
    """Another one: its weight is quantized with another module's."""


@dataclass(frozen=True)
class Survey:
    """What running a network once has shown.

    Attributes:
        layers: Its quantizable layers, in the order in which they are called.
        left_out: The other modules and parameters that have weights, by name, with the reason, whose kind its type
            tells where that matters: `Skipped`, `SharedWeight`.
        unable: Those of them that are called layers whose weight cannot be quantized.
        outputs: What the network returned.
    """

    layers: tuple[LayerInfo, ...]
    left_out: dict[str, str]
    unable: tuple[str, ...]
    outputs: Any


def bare(model: nn.Module) -> nn.Module:
    """Return the network within what `torch.compile` and torch's ways of sharing work have put around it, if any."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def quantizable_layers(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerInfo, ...]:
    """Describe the quantizable layers of a network, in the order in which a forward pass calls them.

    The network is run once, in evaluation mode and without gradients, on one input of zeros, of the type of its
    parameters, or of whole numbers where it begins with an embedding; it is left as it was. A layer that is called
    several times is listed once, with the sum of its multiply-accumulates. Modules that share a weight are layers of
    their own here, see `survey`.

    Args:
        network: Any module.
        input_shape: Shape of one input without the batch dimension, e.g. `(3, 32, 32)`.

    Returns:
        One `LayerInfo` a layer; `scales` is that of a quantizer with one scale a tensor, see `with_scales`.

    Raises:
        ReLeQError: If the network calls no quantizable layer, or one whose weight cannot be quantized.
    """
    first = next((each for each in network.parameters() if each.is_floating_point()), torch.empty(0))
    inputs = torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device)
    try:
        found = survey(network, inputs, apart=True)
    except RuntimeError:
        if not any(isinstance(module, nn.Embedding) for module in network.modules()):
            raise
        found = survey(network, inputs.long(), apart=True)
    if found.unable:
        raise ReLeQError(f"layer {found.unable[0]!r} cannot be quantized: {found.left_out[found.unable[0]]}")
    return found.layers


def survey(network: nn.Module, inputs: Tensor, skip: Collection[str] = (), apart: bool = False) -> Survey:
    """Run a network once, and describe what of it can be quantized and what cannot.

    A layer that is called several times is one layer, with the sum of its multiply-accumulates, the mean over the
    inputs; so are several modules with one weight. Of `nn.MultiheadAttention` the output projection is a layer.

    Args:
        network: Any module. It runs in evaluation mode, without gradients, and is left as it was.
        inputs: One or several, with the batch dimension, where the network is. A layer that is called for none of
            them is left out.
        skip: Names of modules that stay in full precision, with all that is in them.
        apart: Whether a layer is what is called as one, whatever weight it shares.

    Raises:
        ReLeQError: If no layer can be quantized, or there is no such module as is to be skipped.
    """
    modules = dict(network.named_modules())
    if unknown := [name for name in skip if name not in modules or not name]:
        raise ReLeQError(f"skip names {short(unknown[0])}, which the network has not; give names of its modules")
    names: dict[nn.Module, str] = {each: name for name, each in modules.items() if isinstance(each, QUANTIZABLE)}
    macs: dict[nn.Module, int] = {}

    def count(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):  # which uses the weight of this one without calling it
            module, output = module.out_proj, output[0]
        macs[module] = macs.get(module, 0) + _macs(module, (*arguments, *named.values()), output)

    attention = () if apart else nn.MultiheadAttention
    called = [module for module in modules.values() if module in names or isinstance(module, attention)]
    hooks = [module.register_forward_hook(count, with_kwargs=True) for module in called]
    try:
        outputs = _run(network, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    left_out = {name: NOT_CALLED for module, name in names.items() if module not in macs}
    chosen: dict[nn.Module, int] = {}
    first: dict[Tensor, nn.Module] = {}  # of those with one weight
    unable: list[str] = []
    owners = _owners(network)
    with pinned_arithmetic(), torch.no_grad():
        for module, work in macs.items():
            name = names[module]
            weight = module._parameters.get("weight")
            if any(name == prefix or name.startswith(f"{prefix}.") for prefix in skip):
                left_out[name] = Skipped("is to be skipped")
            elif reason := _reason(network, name, module, inputs, owners):
                left_out[name] = reason
                unable.append(name)
            elif not apart and weight is not None and weight in first:
                chosen[first[weight]] += work
                words = f"has the same weight as {names[first[weight]]!r}, and is quantized with it"
                left_out[name] = SharedWeight(words)
            else:
                chosen[module] = work
                if weight is not None:
                    first[weight] = module
        left_out |= _others(network)
        _check_skipped(left_out, {id(weight): names[module] for weight, module in first.items()}, modules)
        if not chosen and not unable:
            raise ReLeQError(
                f"{type(network).__name__} has no quantizable layer; it needs at least one of "
                + ", ".join(kind.__name__ for kind in QUANTIZABLE)
            )
        layers = tuple(_describe(names[module], module, -(-work // len(inputs))) for module, work in chosen.items())
    return Survey(layers, left_out, tuple(unable), outputs)


def with_scales(layers: Iterable[LayerInfo], quantizer: str) -> tuple[LayerInfo, ...]:
    """Return layers with the number of scale factors that a quantizer, a name in `QUANTIZERS`, stores for each."""
    by_channel = QUANTIZERS[quantizer].scales == "channel"
    return tuple(replace(layer, scales=(layer.rows or layer.n) if by_channel else 1) for layer in layers)


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Let a network be in evaluation mode, and call its parts as they would be called in training."""
    training = {module: module.training for module in network.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        network.eval()
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, was_training in training.items():
            module.training = was_training


def _run(network: nn.Module, inputs: Tensor) -> Any:
    with pinned_arithmetic(), torch.no_grad(), _evaluating(network):
        return network(inputs)


def _macs(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> int:
    if isinstance(module, nn.Embedding):
        return 0
    weight = module.weight
    assert isinstance(weight, Tensor)
    # Every output element is one dot product over a weight's non-output dimensions; of a transposed
    # convolution every input element meets one row of the weight.
    elements = arguments[0].numel() if isinstance(module, _TRANSPOSED) else output.numel()
    return int(elements * weight[0].numel())


def _owners(network: nn.Module) -> dict[int, list[nn.Module]]:
    owners: dict[int, list[nn.Module]] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(module)
    return owners


def _reason(
    network: nn.Module, name: str, module: nn.Module, inputs: Tensor, owners: dict[int, list[nn.Module]]
) -> str | None:
    """Return why the weight of a layer cannot be quantized, if it cannot."""
    kind = parametrize.type_before_parametrizations(module)
    weight = module._parameters.get("weight")
    if weight is None and not parametrize.is_parametrized(module, "weight"):
        return (
            f"its weight ({kind.__name__}) is no parameter but computed by a hook, as torch.nn.utils.weight_norm "
            "does; use torch.nn.utils.parametrizations instead, or remove the hook"
        )
    if not name:
        return "it is the whole network; put it into an nn.Sequential"
    if isinstance(module, nn.Embedding) and (module.sparse or module.max_norm is not None):
        return "an Embedding with sparse=True or max_norm= changes its weight by itself"
    strangers = [owner for owner in owners.get(id(weight), ()) if not isinstance(owner, QUANTIZABLE)]
    if strangers:
        return f"its weight is a parameter of a {type(strangers[0]).__name__}, too"
    if kind not in QUANTIZABLE and not _takes_effect(network, name, inputs):
        return f"a {kind.__name__} does not compute with its weight when that is quantized"
    return None


class _NotANumber(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.full_like(weight, torch.nan)


def _takes_effect(network: nn.Module, name: str, inputs: Tensor) -> bool:
    """Whether the network computes with what stands in the place of a layer's weight, as its quantizer does."""
    network = copy.deepcopy(network)
    parametrize.register_parametrization(network.get_submodule(name), "weight", _NotANumber())
    return any(tensor.isnan().any() for tensor in _tensors(_run(network, inputs)) if tensor.is_floating_point())


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict | tuple | list):
        for each in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from _tensors(each)


def _others(network: nn.Module) -> dict[str, str]:
    """Return the parameters that look like weights and belong to no quantizable layer, with the reason."""
    found = {}
    for prefix, module in network.named_modules():
        if isinstance(module, (*QUANTIZABLE, parametrize.ParametrizationList)):
            continue
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim > 1:
                why = f"is a parameter of a {type(module).__name__}, not the weight of a layer"
                if isinstance(module, nn.MultiheadAttention):
                    why = "are the projections of query, key and value, which are no layers of a MultiheadAttention"
                found[f"{prefix}.{name}".lstrip(".")] = why
    return found


def _check_skipped(left_out: dict[str, str], chosen: dict[int, str], modules: dict[str, nn.Module]) -> None:
    for name, reason in left_out.items():
        weight = modules[name]._parameters.get("weight") if name in modules else None
        if isinstance(reason, Skipped) and id(weight) in chosen:
            raise ReLeQError(
                f"skip names {name!r}, which has the same weight as {chosen[id(weight)]!r}; skip both, or none of them"
            )


def _describe(name: str, module: nn.Module, macs: int) -> LayerInfo:
    weight = module.weight
    assert isinstance(weight, Tensor)
    n, c = weight.shape[:2]
    if isinstance(module, _TRANSPOSED):
        n, c = module.out_channels, weight.shape[0] // module.groups
    return LayerInfo(
        name=name,
        n=n,
        c=c,
        k=weight.shape[2] if weight.ndim > 2 else 0,
        weights=weight.numel(),
        macs=macs,
        std=float(weight.detach().float().std(correction=0)),
        rows=weight.shape[0] if weight.shape[0] != n else 0,
    )
