"""What a table takes from what was searched: layers, choices, and how accuracies were measured."""

from typing import Protocol

from releq_env.choices import Choices
from releq_env.evaluation import Evaluator
from releq_env.layer_info import LayerInfo
from releq_env.reward import ReleasedConstants


class Described(Protocol):
    """What accuracies are of; a `releq_env.Problem` is one. Attributes are those of it."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> tuple[LayerInfo, ...]: ...
    @property
    def choices(self) -> Choices: ...
    @property
    def evaluator(self) -> Evaluator: ...
    @property
    def quantizer(self) -> str | None: ...
    @property
    def full_precision_accuracy(self) -> float: ...
    @property
    def min_relative_accuracy(self) -> float: ...
    @property
    def released_constants(self) -> ReleasedConstants: ...
