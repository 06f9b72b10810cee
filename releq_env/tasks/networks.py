"""The networks of the paper. Weights only are quantized; every convolution and every linear layer is.

Where the paper has ReLU before max pooling, it comes after: the same function, on a quarter of the
values.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class DigitsNet(nn.Sequential):
    """Four quantizable layers for 8x8 grey images: 38,160 weights."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 3, padding=1),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 32, 3, padding=1),
                pool2=nn.MaxPool2d(2),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(512, 64),
                relu_fc1=nn.ReLU(),
                fc2=nn.Linear(64, 10),
            )
        )


class LeNet(nn.Sequential):
    """LeNet 20-50-500-10 for 28x28 grey images: 430,500 weights in four layers."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 20, 5),
                pool1=nn.MaxPool2d(2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(20, 50, 5),
                pool2=nn.MaxPool2d(2),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(800, 500),
                relu_fc1=nn.ReLU(),
                fc2=nn.Linear(500, 10),
            )
        )


class SimpleNet(nn.Sequential):
    """SimpleNet for 32x32 colour images: 61,770 weights in five layers."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 6, 5),
                pool1=nn.MaxPool2d(2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(6, 16, 5),
                pool2=nn.MaxPool2d(2),
                relu2=nn.ReLU(),
                flatten=nn.Flatten(),
                fc1=nn.Linear(400, 120),
                relu_fc1=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu_fc2=nn.ReLU(),
                fc3=nn.Linear(84, 10),
            )
        )


class SVHN8(nn.Module):
    """SVHN-8 for 32x32 colour images: seven 3x3 convolutions and one linear layer.

    Every convolution is followed by batch normalisation without affine parameters, ReLU and
    dropout (0.3).
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for width, pool, padding in (
            (32, False, 1),
            (32, True, 1),
            (64, False, 1),
            (64, True, 1),
            (128, False, 1),
            (128, True, 1),
            (256, True, 0),
        ):
            blocks += [
                nn.Conv2d(channels, width, 3, padding=padding, bias=False),
                nn.BatchNorm2d(width, affine=False),
                *([nn.MaxPool2d(2)] if pool else []),
                nn.ReLU(),
                nn.Dropout(0.3),
            ]
            channels = width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))
