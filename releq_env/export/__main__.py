"""Export a quantized network: python -m releq_env.export MODEL_DIR --format packed|onnx|torchao.

MODEL_DIR has the `network.safetensors` and `assignment.json` of `SearchResult.save`, `agents.finalize` or
`releq_env.export.save_model`. What is exported is run again and compared with torch.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError, check_choice, short
from releq_env.export.about import INPUT_TYPES, About
from releq_env.export.agreement import compare
from releq_env.export.content import Content
from releq_env.export.folder import check_assignment, packed_file
from releq_env.export.formats import FORMATS
from releq_env.export.model import Model
from releq_env.export.named import network_named
from releq_env.export.packed import read_about, read_packed
from releq_env.tasks import TASKS, get_task

_RANDOM = 64  # inputs


def export(options: argparse.Namespace) -> Path:
    """Export a network, print what came of it, and return the file.

    Raises:
        ReLeQError: In one line, if an option is not accepted, the network cannot be exported, or what was
            exported computes something else.
    """
    path = packed_file(options.folder)
    about = read_about(path)
    if options.input_shape:
        about = replace(about, input_shape=tuple(options.input_shape))
    if options.input_dtype:
        about = replace(about, input_dtype=options.input_dtype)
    untrained, about = _network(path, about, options.model)
    network, content = read_packed(path, untrained)
    check_assignment(options.folder, {name: layer.bits for name, layer in content.layers.items()})
    model = Model(network, content, about, path)
    chosen = FORMATS[options.format]
    target = Path(options.output) if options.output else path.with_name(chosen.file)
    if not target.name or target.is_dir() or not target.parent.is_dir():
        raise ReLeQError(
            f"--output {target} cannot be written: it is no file in a folder that is there; give another path"
        )
    inputs = _inputs(options.check, about, options.data_root)  # before anything that takes time
    unchecked = target.with_name(f".unchecked-{os.getpid()}-{target.name}")  # what disagrees replaces nothing
    try:
        for line in chosen.writer()(model, unchecked):
            print(line)
        if inputs is not None:
            agreement = compare(network, chosen.runner()(model, unchecked), inputs)
            if not agreement.agree:
                raise ReLeQError(f"outputs of {target.name} {agreement}; it was not written; please report this")
            print(f"outputs {agreement}")
        unchecked.replace(target)
    finally:
        unchecked.unlink(missing_ok=True)
    _print_sizes(model, options.format, target)
    return target


def _network(path: Path, about: About, given: str | None) -> tuple[nn.Module, About]:
    """Return the network of full precision, and what is known of it.

    Raises:
        ReLeQError: If none is named, or what is named is none.
    """
    if given is not None:
        return network_named(given), about
    if about.task is None:
        raise ReLeQError(f"{path} is of a network of somebody's own; give --model module:function that returns it")
    if about.task not in TASKS:
        known = ", ".join(TASKS)
        raise ReLeQError(
            f"{path} is of the task {short(about.task)}, and known are {known}; give --model module:function"
        )
    task = get_task(about.task)
    return task.untrained(), replace(about, input_shape=about.input_shape or task.dataset.input_shape)


def _inputs(check: str, about: About, data_root: str | None) -> Tensor | None:
    """Return inputs to compare on, or `None`.

    Raises:
        ReLeQError: If there are none.
    """
    kind = getattr(torch, about.input_dtype)
    if check == "none":
        return None
    if check == "task":
        if about.task is None:
            raise ReLeQError("--check task needs a network of a task; give --check FILE.npy with inputs, or random")
        dataset = get_task(about.task).dataset
        return dataset.normalize(dataset.load(data_root)[1].inputs)
    if check == "random":
        if about.input_shape is None:
            raise ReLeQError("the shape of an input is not known; give --input-shape, e.g. --input-shape 3 32 32")
        generator = torch.Generator().manual_seed(0)
        shape = (_RANDOM, *about.input_shape)
        if kind == torch.int64:  # 0 and 1, which are numbers of any vocabulary
            return torch.randint(0, 2, shape, generator=generator)
        return torch.randn(shape, generator=generator)
    try:
        found = torch.from_numpy(np.load(check, allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        mend = "give a .npy file of inputs, task, random or none"
        raise ReLeQError(f"--check {check} cannot be read ({error}); {mend}") from error
    if about.input_shape is None or found.shape[1:] != about.input_shape or not len(found):
        accepted = ", ".join(map(str, about.input_shape or ["see --input-shape"]))
        raise ReLeQError(f"--check {check} has inputs of shape {tuple(found.shape)}; give (count, {accepted})")
    return found.to(kind)


def theoretical_size(content: Content) -> int:
    """Return the bytes that a network needs: packed weights, their scales, and everything else once."""
    return _bytes([*(part for parts in content.packed.values() for part in parts), *content.others.values()])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in {id(each): each for each in tensors}.values())


def _print_sizes(model: Model, name: str, target: Path) -> None:
    full = _bytes(model.network.state_dict(keep_vars=True).values())
    rows = {"float32": full, "theory": theoretical_size(model.content), "packed": model.path.stat().st_size}
    rows |= {name: target.stat().st_size}
    for what, size in rows.items():
        share = "" if what == "float32" else f"  {full / size:6.2f} times smaller"
        print(f"{what:8} {size:>12,} bytes{share}")
    print(f"written: {target}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m releq_env.export", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("folder", metavar="MODEL_DIR", help="folder with network.safetensors, or such a file")
    parser.add_argument("--format", default="packed", help=", ".join(FORMATS))
    parser.add_argument("--output", help="the file to write; default: beside the packed one")
    parser.add_argument("--model", help="module:function that returns your network, untrained; not for a task's")
    parser.add_argument("--input-shape", type=int, nargs="+", help="of one input, e.g. 3 32 32, if the file has none")
    parser.add_argument("--input-dtype", choices=INPUT_TYPES, help="of the inputs; default: what the file says")
    parser.add_argument(
        "--check",
        default="random",
        help="on which inputs outputs are compared with torch's: task (its validation images), random (64), "
        "none, or a .npy file; default: random",
    )
    parser.add_argument("--data-root", help="folder of the data, for --check task")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and export."""
    options = _parser().parse_args(arguments)
    with ends_in_one_line():
        check_choice("format", options.format, FORMATS)
        export(options)


if __name__ == "__main__":
    main()
