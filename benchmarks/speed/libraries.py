"""Row c: the same budget with the quantization-aware training of maintained libraries.

Weights only, 4 bits, one scale an output channel. The libraries get the best loop that needs no change in
them: data resident as float32 tensors (no `DataLoader`), our LeNet with its cheaper order of pooling and
ReLU, fused Adam, every thread torch takes, validation in batches of 500 without gradients. It is measured
twice: in fp32 and torch's usual layout, as their guides train, and with bf16 autocast and channels last
(`tuned`), which is this package's doing and not theirs.
"""

import contextlib
import copy
import functools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common.stand_ins import BATCH, BITS, real_or_random
from benchmarks.speed.measuring import Measure, Note, Options, Reading, child, values
from benchmarks.speed.table import Line, ratio
from benchmarks.speed.workers import amortised
from releq_env.devices import resolve_precision

LETTER = "c"
SETTINGS = {"fp32": "fp32, as its guide trains", "tuned": "with bf16 and channels last, our doing"}
_VALIDATION_BATCH = 500


def brevitas(network: nn.Module) -> nn.Module:
    """Return a copy of a sequential network with Brevitas' layers."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8WeightPerChannelFloat

    quantized = copy.deepcopy(network)
    how: dict[str, Any] = {"weight_bit_width": BITS, "weight_quant": Int8WeightPerChannelFloat}
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d):
            twin = qnn.QuantConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, **how)
        elif isinstance(layer, nn.Linear):
            twin = qnn.QuantLinear(layer.in_features, layer.out_features, bias=True, **how)
        else:
            continue
        twin.load_state_dict(layer.state_dict(), strict=False)  # the scales start from the weights
        setattr(quantized, name, twin)
    return quantized


def modelopt(network: nn.Module) -> nn.Module:
    """Return a copy of a network quantized by NVIDIA ModelOpt."""
    import modelopt.torch.quantization as mtq

    weights = {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": BITS, "axis": 0}, "enable": True}
    config = {"quant_cfg": [{"quantizer_name": "*", "enable": False}, weights], "algorithm": "max"}
    with contextlib.redirect_stdout(None):
        return mtq.quantize(copy.deepcopy(network), config)


PEERS: dict[str, Callable[[nn.Module], nn.Module]] = {"brevitas": brevitas, "modelopt": modelopt}
_PACKAGES = {"brevitas": "brevitas", "modelopt": "nvidia-modelopt requests huggingface_hub"}


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds and accuracy, in a process of its own; imports, data and a first evaluation do not count."""
    with child() as process:

        def run(peer: str, images: int) -> list[Reading]:
            found = []
            for setting in SETTINGS:
                accuracy, seconds = process.submit(evaluate, peer, setting, images, options.random_data).result()
                found.append(Reading("c", peer, "s", seconds, setting=setting))
                found.append(Reading("c", peer, "accuracy", accuracy, setting=setting))
            return found

        usable = []
        for peer, packages in _PACKAGES.items():
            if find_spec(peer) is None:
                options.notes.append(Note("c", peer, f"not installed: python -m pip install {packages}"))
                continue
            try:
                run(peer, min(options.images, 2 * BATCH))
                usable.append(peer)
            except Exception as error:  # whatever a library raises that does not fit its neighbours
                options.notes.append(Note("c", peer, f"fails: {type(error).__name__}: {error}"))
        yield lambda _: [reading for peer in usable for reading in run(peer, options.images)]


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare with ours. The faster library is judged, as it is used; what our arithmetic would do for it is shown."""
    found = []
    for setting, how in SETTINGS.items():
        theirs = {peer: each for peer in PEERS if (each := values(readings, "c", peer, setting=setting))}
        fastest = min(theirs, key=lambda peer: statistics.median(theirs[peer]), default=None)
        for peer, each in theirs.items():
            wanted = ">= 3" if (peer, setting) == (fastest, "fp32") else ""
            found.append(ratio("c", f"{peer} ({how}) / ours", each, amortised(readings), wanted))
    return found


def evaluate(peer: str, setting: str, images: int, random_data: bool) -> tuple[float, float]:
    """Return validation accuracy after retraining, and the seconds from copying the network to there."""
    network, training, labels, validation, validation_labels = _resident(random_data)
    tuned = setting == "tuned"
    dtype = resolve_precision("auto", torch.device("cpu")) if tuned else torch.float32
    layout = torch.channels_last if tuned else torch.contiguous_format
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:images]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = PEERS[peer](network).to(memory_format=layout)
    quantized.train()
    optimizer = torch.optim.Adam(quantized.parameters(), lr=1e-3, fused=True)
    for batch in order.split(BATCH):
        with autocast:
            logits = quantized(training[batch].contiguous(memory_format=layout))
        F.cross_entropy(logits.float(), labels[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
    quantized.eval()
    correct = 0
    with torch.no_grad(), autocast:
        for piece, truth in zip(
            validation.split(_VALIDATION_BATCH), validation_labels.split(_VALIDATION_BATCH), strict=True
        ):
            correct += int((quantized(piece.contiguous(memory_format=layout)).argmax(dim=1) == truth).sum())
    return correct / len(validation_labels), time.perf_counter() - start


@functools.cache
def _resident(random_data: bool) -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor]:
    task, pretrained = real_or_random("lenet", random_data, training=1000, validation=100)
    training, validation = task.dataset.load()
    normalize = task.dataset.normalize
    return (
        pretrained.network,
        normalize(training.inputs),
        training.targets,
        normalize(validation.inputs),
        validation.targets,
    )
