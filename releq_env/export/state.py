"""What a network's state holds besides the quantized weights, and how its tensors lie in memory."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.errors import ReLeQError, short


def rest(network: nn.Module, layers: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return the tensors of a network's `state_dict`, without the weights of some of its layers.

    Raises:
        ReLeQError: If something in it is no tensor, or one without memory.
    """
    chosen = set(layers)
    names = [name for name, module in network.named_modules(remove_duplicate=False) if module in chosen]
    weights = tuple(f"{name}.weight" if name else "weight" for name in names)
    parametrized = tuple(f"{name}.parametrizations.weight." if name else "parametrizations.weight." for name in names)
    state = {
        name: value
        for name, value in network.state_dict().items()
        if name not in weights and not name.startswith(parametrized)
    }
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ReLeQError(f"{name!r} in the network's state is a {type(value).__name__}; only tensors can be packed")
        if value.is_meta:
            raise ReLeQError(
                f"{name!r} in the network's state is on the device 'meta'; use to_empty(device='cpu') first"
            )
    return state


def weight_identity(module: nn.Module) -> tuple[int, ...]:
    """Return what is equal of two modules if they compute with one weight, and one quantizer where it has one."""
    if parametrize.is_parametrized(module, "weight"):
        steps = module.get_submodule("parametrizations.weight")
        return tuple(map(id, (*steps.parameters(recurse=False), *steps.children())))
    weight = module._parameters.get("weight")
    return (id(module),) if weight is None else (id(weight),)


def distinct(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors without those that are another one under a second name, and of these the first name."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.dtype, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            same[name] = first[place]
    return {name: tensor for name, tensor in tensors.items() if name not in same}, same


def order(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's dimensions from the one with the longest way in memory to the one with the shortest.

    Ascending where it is contiguous. Convolutions of other orders (channels last) add in another order, too.
    """
    strides = tensor.stride()
    return tuple(sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], tensor.shape[axis] == 1)))


def ordered(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Return a copy of a tensor whose `order` is `axes`."""
    copy = tensor.new_empty([tensor.shape[axis] for axis in axes])
    return copy.permute([axes.index(axis) for axis in range(tensor.ndim)]).copy_(tensor)


def check_order(axes: object, dimensions: int) -> None:
    """Raise `ValueError` if something is not the `order` of a tensor with so many dimensions."""
    if type(axes) is not list or {*map(type, axes)} - {int} or sorted(axes) != list(range(dimensions)):
        raise ValueError(f"{short(axes)} is no order of {dimensions} dimensions")


def contiguous(tensor: Tensor) -> tuple[int, ...]:
    """Return the `order` that a tensor would have if it were contiguous."""
    return tuple(range(tensor.ndim))


def put_in_order(network: nn.Module, orders: Mapping[str, Sequence[int]]) -> None:
    """Let tensors of a network's state have an `order`, in place.

    Args:
        network: The network.
        orders: By their names in its `state_dict`.
    """
    for name, tensor in network.state_dict(keep_vars=True).items():
        if name in orders and order(tensor) != tuple(orders[name]):
            tensor.data = ordered(tensor, orders[name])
