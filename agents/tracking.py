"""What a run shows and writes while it goes on."""

import csv
import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.monitor import ResultsWriter
from tqdm import tqdm

from agents.run_folder import RunFolder, append_rows, spaced
from agents.settings import Settings
from releq_env.evaluation import CachedEvaluator
from releq_env.files import replace_file

MONITOR = "0.monitor.csv"
_EPISODE_KEYS = ("relative_accuracy", "state_of_quantization", "bitwidths")
_PARTS = 1000  # of the progress line
_DRAWING_SECONDS = 60.0  # between two drawings of the pictures
_QUIET_SECONDS = 15.0  # between two lines where nobody watches a terminal


class Tracker:
    """Keeps the episodes and the policy's probabilities, and one progress line.

    Args:
        folder: The run's folder.
        evaluator: The run's evaluator; its counters are shown.
        settings: The run's settings.
        done: Time steps and episodes that an earlier part of the run has done; what was written
            beyond them is dropped, since it will be done again. `None`: nothing is left to do.
        redraw: Called now and then when a better assignment is to be drawn.
    """

    def __init__(
        self,
        folder: RunFolder,
        evaluator: CachedEvaluator,
        settings: Settings,
        done: tuple[int, int] | None = (0, 0),
        redraw: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._evaluator = evaluator
        self._settings = settings
        self._redraw = redraw
        self._drawn: tuple[float, object] = (time.monotonic(), folder.best)
        self._begun = time.time()
        monitor = folder.path / MONITOR
        if done is None:
            self.timesteps, self.episodes = settings.timesteps, len(read_episodes(folder))
        else:
            self.timesteps, self.episodes = done
            self._trim(monitor, header_lines=2, column=None)
            self._trim(folder.path / "probabilities.csv", header_lines=1, column="episode")
        fresh = not monitor.exists()
        self._monitor = ResultsWriter(
            str(monitor),
            header={"t_start": self._begun, "env_id": settings.env} if fresh else None,
            extra_keys=_EPISODE_KEYS,
            override_existing=fresh,
        )
        watched = sys.stderr.isatty()
        self._bar = tqdm(
            total=_PARTS,
            initial=self._parts_done(),
            mininterval=0.5 if watched else _QUIET_SECONDS,
            bar_format="{percentage:3.0f}%|{bar:12}| {desc} [{elapsed} gone, {remaining} left]",
            dynamic_ncols=watched,
            file=sys.stderr if watched else _Lines(sys.stderr),
        )

    def step(self, count: int) -> None:
        """Count time steps, and refresh the progress line."""
        self.timesteps += count
        self._bar.set_description_str(self.summary(), refresh=False)
        self._bar.update(self._parts_done() - int(self._bar.n))
        when, best = self._drawn
        if self._folder.best is not best and time.monotonic() - when > _DRAWING_SECONDS:
            self._redraw()
            self._drawn = (time.monotonic(), self._folder.best)

    def episode(self, info: dict[str, Any], reward: float, length: int) -> None:
        """Write down a finished episode."""
        self.episodes += 1
        row: dict[str, Any] = {"r": round(reward, 6), "l": length, "t": round(time.time() - self._begun, 3)}
        row |= {key: info[key] for key in _EPISODE_KEYS if key != "bitwidths"}
        self._monitor.write_row(row | {"bitwidths": spaced(info["bitwidths"])})

    def probabilities(self, by_layer: Sequence[Sequence[float]]) -> None:
        """Write down the mean probability of each action, by layer."""
        width = len(by_layer[0])
        columns = ["episode", "layer", *(f"p{action}" for action in range(width))]
        append_rows(
            self._folder.path / "probabilities.csv",
            columns,
            [
                {"episode": self.episodes, "layer": layer} | {f"p{action}": f"{p:.6f}" for action, p in enumerate(row)}
                for layer, row in enumerate(by_layer)
            ],
        )

    def summary(self) -> str:
        """Return where the run stands, in one line."""
        text = (
            f"episode {self.episodes} | {self._evaluator.distinct_evaluations} distinct evaluations, "
            f"{self._evaluator.retrained} retrained"
        )
        best = self._folder.best
        if best is not None:
            text += (
                f" | best {spaced(best['bitwidths'])}: {best['average_bits']:.2f} bits, "
                f"{best['relative_accuracy']:.4f} of the accuracy"
            )
        return text

    def close(self) -> None:
        """End the progress line and close the files."""
        self._bar.set_description_str(self.summary(), refresh=False)
        self._bar.close()
        self._monitor.close()

    def _parts_done(self) -> int:
        """Return how much is done, by time steps or by budget, whichever is nearer to its end."""
        done = self.timesteps / self._settings.timesteps
        if self._settings.budget is not None:
            done = max(done, self._evaluator.distinct_evaluations / self._settings.budget)
        return min(int(done * _PARTS), _PARTS)

    def _trim(self, path: Any, header_lines: int, column: str | None) -> None:
        """Drop rows of episodes beyond those that count as done."""
        if not path.exists():
            return
        lines = path.read_text().splitlines(keepends=True)
        if len(lines) < header_lines:  # a kill came before the header was whole
            path.unlink()
            return
        head, body = lines[:header_lines], lines[header_lines:]
        if column is None:
            kept = body[: self.episodes]
        else:
            names = head[0].strip().split(",")
            index = names.index(column)
            kept = [line for line in body if line.endswith("\n") and int(line.split(",")[index]) <= self.episodes]
        replace_file(path, "".join(head + kept))


class _Lines(io.TextIOBase):
    """Turns a progress bar's redrawing into one line each, for logs."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def read_episodes(folder: RunFolder) -> list[dict[str, str]]:
    """Return the rows of the run's monitor file."""
    path = folder.path / MONITOR
    if not path.exists():
        return []
    with path.open() as file:
        file.readline()  # Monitor's JSON header
        return list(csv.DictReader(file))
