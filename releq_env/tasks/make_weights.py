"""Remake the shipped weights and their records: `python -m releq_env.tasks.make_weights mnist`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from releq_env.command import ends_in_one_line
from releq_env.tasks.pretrained import SHIPPED, write
from releq_env.tasks.pretraining import pretrain
from releq_env.tasks.task import TASKS, get_task


def main() -> None:
    """Remake the shipped weights of the tasks that are named."""
    parser = argparse.ArgumentParser(prog="python -m releq_env.tasks.make_weights", description=main.__doc__)
    parser.add_argument("tasks", nargs="+", choices=list(TASKS), help="which weights to remake")
    parser.add_argument("--data-root", help="folder of the data (default: RELEQ_DATA, else the cache folder)")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where to write (default: in the package)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.tasks:
        task = get_task(name)
        checkpoint = args.output / f"{name}.checkpoint"
        network, accuracies = pretrain(task, args.data_root, checkpoint, with_test=True)
        write(task, args.output / f"{name}.json", network, accuracies, args.data_root)
        print(json.dumps({"task": name, **asdict(task.pretraining), **accuracies}))


if __name__ == "__main__":
    with ends_in_one_line():
        main()
