"""Networks of one's own of many kinds, small, untrained, with data that are generated."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COUNT = 48


@dataclass(frozen=True)
class Case:
    """A network with its data.

    Attributes:
        model: Makes it.
        inputs: Shape of an input.
        layers: Names of the layers that are decided.
        arguments: Further ones of `Problem.from_network`.
        targets: Inputs -> targets; default: classes.
        ids: Whether inputs are token ids.
        left_out: Names of what is not quantized, or not by itself.
    """

    model: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    layers: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    targets: Callable[[Tensor], Any] | None = None
    ids: bool = False
    left_out: tuple[str, ...] = ()

    def made(self) -> tuple[nn.Module, tuple[Tensor, Any], tuple[Tensor, Any]]:
        """Return the network, training and validation data."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.model()
            parts = []
            for _ in range(2):
                shape = (COUNT, *self.inputs)
                inputs = torch.randint(0, 20, shape) if self.ids else torch.randn(shape)
                with torch.no_grad():
                    parts.append((inputs, self.targets(inputs) if self.targets else _classes(model, inputs)))
        return model, parts[0], parts[1]


def _classes(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what the network itself says, so that its accuracy is 1."""
    return model.eval()(inputs).argmax(1)


class Shared(nn.Module):
    """A branch, a residual, one layer called twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.unused = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.into, self.back, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.back.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.twice(torch.relu(self.twice(x)))
        return self.out(self.back(torch.relu(self.into(x))) + x)


class Attention(nn.Module):
    """An encoder block of torch's, behind an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.block(self.words(ids)).mean(1))


class TwoOutputs(nn.Module):
    """A class and a position."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.label, self.place = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x))
        return self.label(hidden), self.place(hidden)


def two_targets(inputs: Tensor) -> tuple[Tensor, Tensor]:
    return inputs[:, :3].argmax(1), inputs[:, 3:5]


def two_losses(outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(outputs[0], targets[0]) + F.mse_loss(outputs[1], targets[1])


def two_metrics(outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> float:
    right = (outputs[0].argmax(1) == targets[0]).float().mean()
    return float(right) / (1.0 + float(F.mse_loss(outputs[1], targets[1]).detach()))


class Answer(NamedTuple):
    """What `Named` returns."""

    scores: Tensor
    label: Tensor


class Named(nn.Module):
    """Scores, and the label that they say, in a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(8, 16), nn.Linear(16, 300)

    def forward(self, x: Tensor) -> Answer:
        scores = self.out(torch.relu(self.body(x)))
        return Answer(scores, scores.argmax(1))


def named_loss(outputs: Answer, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.scores, targets)


def named_metric(outputs: Answer, targets: Tensor) -> float:
    assert outputs.label.dtype == torch.int64
    assert torch.equal(outputs.label, outputs.scores.argmax(1))
    right = float((F.one_hot(outputs.label, 300).argmax(1) == targets).float().mean())
    return 0.5 + 0.5 * right  # it is untrained, and has many classes


class Viewed(nn.Module):
    """Flattens by `view`, as older networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 4, 3)
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        return self.out(torch.relu(self.second(x)).view(x.size(0), -1))


class Spectrum(Viewed):
    """Makes images of what are none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(len(x), 2, 10, 10))


class Grid(Viewed):
    """Has a buffer of five dimensions, too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.zeros(1, 1, 1, 1, 2))


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def of_lambdas() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 16), Lambda(lambda x: x.clamp(min=0.0)), nn.Linear(16, 4), Lambda(lambda x: 2.0 * x)
    )


class Segments(nn.Module):
    """Down by a strided convolution and up by a transposed one: a class a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.wide(torch.relu(self.down(x)))))


def brightness(inputs: Tensor) -> Tensor:
    return (inputs[:, 0] > 0).long()


def pixels_right(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets).float().mean())


def near(outputs: Tensor, targets: Tensor) -> float:
    return 1.0 / (1.0 + float(F.mse_loss(outputs, targets)))


def sums(inputs: Tensor) -> Tensor:
    return inputs.sum(1, keepdim=True)


CASES: dict[str, Case] = {
    "shared weights": Case(Shared, (8,), ("first", "twice", "into", "out"), left_out=("unused", "back")),
    "attention": Case(
        Attention,
        (6,),
        ("words", "block.self_attn.out_proj", "block.linear1", "block.linear2", "out"),
        ids=True,
        left_out=("block.self_attn.in_proj_weight",),
    ),
    "two outputs": Case(
        TwoOutputs,
        (8,),
        ("body", "label", "place"),
        {"loss": two_losses, "metric": two_metrics, "cache_key": "two", "min_relative_accuracy": 0.5},
        two_targets,
    ),
    "a named tuple": Case(
        Named,
        (8,),
        ("body", "out"),
        {"loss": named_loss, "metric": named_metric, "cache_key": "named"},
        lambda inputs: inputs.argmax(1),
    ),
    "a view behind a convolution": Case(Viewed, (2, 10, 10), ("first", "second", "out")),
    "images of no images": Case(Spectrum, (200,), ("first", "second", "out")),
    "a buffer of five dimensions": Case(Grid, (2, 10, 10), ("first", "second", "out")),
    "an embedding": Case(
        lambda: nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 3)),
        (6,),
        ("0",),
        {"skip": ["2"], "cost": "size"},
        ids=True,
        left_out=("2",),
    ),
    "lambdas": Case(of_lambdas, (8,), ("0", "2")),
    "regression": Case(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)),
        (8,),
        ("0", "2"),
        {"loss": F.mse_loss, "metric": near, "cache_key": "near"},
        sums,
    ),
    "a class a pixel": Case(
        Segments,
        (1, 8, 8),
        ("down", "wide", "up"),
        {"loss": F.cross_entropy, "metric": pixels_right, "cache_key": "pixels"},
        brightness,
    ),
    "signals": Case(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14, 3)
        ),
        (2, 16),
        ("0", "4"),
    ),
    "volumes": Case(
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3)), (1, 4, 4, 4), ("0", "3")
    ),
}
"""By what is special of them."""
