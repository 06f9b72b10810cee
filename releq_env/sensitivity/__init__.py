"""Sensitivities: what is known of each layer alone, before any assignment was measured. One file a proxy.

What needs torch is imported on first use: a table's sensitivities are read without it.
"""

from typing import TYPE_CHECKING

from releq_env.lazy import on_first_use
from releq_env.sensitivity.of_problem import additive_losses
from releq_env.sensitivity.registry import IMAGES, PROXIES, TRAINING_FREE

if TYPE_CHECKING:
    from releq_env.sensitivity.measure import measure_sensitivities

__all__ = ["IMAGES", "PROXIES", "TRAINING_FREE", "additive_losses", "measure_sensitivities"]

__getattr__ = on_first_use(__name__, {"measure_sensitivities": "releq_env.sensitivity.measure"})
