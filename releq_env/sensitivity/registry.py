"""The proxies by name. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ProxyEntry:
    """One entry of `PROXIES`.

    Attributes:
        measure: `(Probe) -> Proxy`, or where that is: `"module:name"`. `None`: looked up among evaluations.
        what: In words, for pages.
        source: Where it is published.
        training_free: Whether it needs no retraining.
    """

    measure: str | Callable[..., Any] | None
    what: str
    source: str
    training_free: bool = True


PROXIES: dict[str, ProxyEntry] = {
    "loss": ProxyEntry(
        "releq_env.sensitivity.post_training:post_training_loss",
        "rise of the loss after quantizing this layer alone",
        "what sensitivity analyses of vendors' tools print; AIMET, NVIDIA ModelOpt",
    ),
    "fisher": ProxyEntry(
        "releq_env.sensitivity.fisher:fisher",
        "half the diagonal Fisher information times the squared quantization error, summed over the weights",
        "second-order loss as in BRECQ (arXiv 2102.05426) and FIT (arXiv 2210.08502)",
    ),
    "hessian": ProxyEntry(
        "releq_env.sensitivity.hessian:hessian",
        "mean of the Hessian's diagonal (Hutchinson) times the summed squared quantization error",
        "HAWQ-V2 (arXiv 1911.03852)",
    ),
    "alone": ProxyEntry(
        None,
        "accuracy lost with this layer at that bitwidth and all others at their most, after short retraining",
        "one-layer-at-a-time analysis",
        training_free=False,
    ),
}
"""By name. Others add their own."""

TRAINING_FREE = tuple(name for name, entry in PROXIES.items() if entry.training_free)

IMAGES = 1024
"""Training images that these look at unless told otherwise."""
