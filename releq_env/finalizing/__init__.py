"""From an assignment to a final network, its loss and its file."""

from releq_env.finalizing.api import estimate, finalize
from releq_env.finalizing.result import FinalResult

__all__ = ["FinalResult", "estimate", "finalize"]
