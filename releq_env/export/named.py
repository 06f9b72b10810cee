"""A network of somebody's own, by where it is made."""

import pkgutil

from torch import nn

from releq_env.errors import ReLeQError, short


def network_named(where: str) -> nn.Module:
    """Return what `module:function`, or `module:network`, of the option `--model` stands for.

    Raises:
        ReLeQError: If it cannot be made, or is no network.
    """
    try:
        made = pkgutil.resolve_name(where)
        made = made if isinstance(made, nn.Module) or not callable(made) else made()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ReLeQError(f"--model {where} cannot be made ({error}); give module:function") from error
    if not isinstance(made, nn.Module):
        raise ReLeQError(f"--model {where} gave {short(made)}, no torch.nn.Module; return one from it")
    return made
