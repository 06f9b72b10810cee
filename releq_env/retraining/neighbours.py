"""Finding modules that may be replaced together, and making sure that replacing them changes nothing."""

import copy
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

Pair = tuple[str, str]
"""Names of two modules, of which the second takes what the first returns."""


def neighbours(network: nn.Module) -> list[Pair]:
    """Return the consecutive children of every `nn.Sequential`.

    Left out are those with hooks, which may see what is between, and those that stand in several
    places. A network can still use its children in another way: see `unchanged`.
    """
    places = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    pairs = []
    for prefix, parent in network.named_modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        children = [(f"{prefix}.{name}".lstrip("."), module) for name, module in parent.named_children()]
        for (first, one), (second, other) in pairwise(children):
            if places[one] == places[other] == 1 and not (_has_hooks(one) or _has_hooks(other)):
                pairs.append((first, second))
    return pairs


def unchanged(change: Callable[[nn.Module], None], network: nn.Module, inputs: Tensor, tolerance: float) -> bool:
    """Whether a changed copy of a network computes what the network does: the same outputs for some inputs.

    It does not if it fails, as where a network reads attributes of a module that was replaced. Outputs
    alone are compared: what no number of them shows, like a skip behind a gate that is zero, is not seen.

    Args:
        change: Changes a network in place.
        network: In eval mode.
        inputs: A few inputs.
        tolerance: How large the difference may be, relative to the outputs.
    """
    try:
        changed = copy.deepcopy(network)
        change(changed)
        with torch.no_grad():
            expected, outputs = network(inputs), changed(inputs)
        return bool((outputs - expected).norm() <= tolerance * expected.norm())
    except Exception:  # whatever a network raises that is not itself any more
        return False


def _has_hooks(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)
