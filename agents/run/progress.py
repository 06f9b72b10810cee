"""What a run shows and writes while it goes on, and when it ends."""

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from agents.report.files import Table
from agents.report.text import MONITOR, PROBABILITIES, spaced
from agents.run.folder import RunFolder
from agents.run.settings import Settings
from releq_env.evaluation import Evaluator

_EPISODE_KEYS = ("relative_accuracy", "state_of_quantization", "bitwidths")
_PARTS = 1000  # of the progress line
_DRAWING_SECONDS = 60.0  # between two drawings of the pictures
_QUIET_SECONDS = 15.0  # between two lines where nobody watches a terminal

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Stopwatch:
    """Adds up how long functions take.

    Args:
        clock: Returns the time, in seconds.

    Attributes:
        seconds: How long they have taken.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self._clock = 0.0, clock

    def __call__(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return the function, timed."""

        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            begun = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += self._clock() - begun

        return timed


class RunProgress:
    """Keeps the episodes and the policy's probabilities, shows one progress line, and says when to end.

    What it writes is begun anew: a resumed run repeats it.

    Args:
        folder: The run's folder.
        evaluator: The run's evaluator; its counters are shown.
        settings: The run's settings.
        num_envs: Environments side by side.
        steps_of_asked: Time steps that an asked assignment counts.
        redraw: Called now and then when a better assignment is to be drawn.
    """

    def __init__(
        self,
        folder: RunFolder,
        evaluator: Evaluator,
        settings: Settings,
        num_envs: int,
        steps_of_asked: int,
        redraw: Callable[[], None] = lambda: None,
    ) -> None:
        self.schedule_timesteps = settings.schedule_timesteps
        self.timesteps = 0
        self.episodes = 0
        self._folder = folder
        self._evaluator = evaluator
        self._settings = settings
        self._steps_of_asked = steps_of_asked
        self._redraw = redraw
        self._drawn: tuple[float, object] = (time.monotonic(), folder.best)
        self._recorded = len(folder.rows)
        self._begun = time.time()
        self._returns: NDArray[np.float64] = np.zeros(num_envs)
        self._lengths: NDArray[np.int64] = np.zeros(num_envs, dtype=np.int64)
        self._tables: dict[str, Table] = {}
        watched = sys.stderr.isatty()
        self._bar = tqdm(
            total=_PARTS,
            mininterval=0.5 if watched else _QUIET_SECONDS,
            bar_format="{percentage:3.0f}%|{bar:12}| {desc} [{elapsed} gone, {remaining} left]",
            dynamic_ncols=watched,
            file=sys.stderr if watched else _Lines(sys.stderr),
        )

    def step(self, rewards: Any, dones: Any, infos: Any) -> bool:
        """Take up a step of all environments, and write down the episodes that it ends."""
        self._returns += rewards
        self._lengths += 1
        for index in np.flatnonzero(dones):
            self._write_episode(infos[index], float(self._returns[index]), int(self._lengths[index]))
            self._returns[index] = self._lengths[index] = 0
        return self._count(len(self._returns))

    def asked(self, assignments: int) -> bool:
        """Count assignments that a searcher has asked for."""
        return self._count(assignments * self._steps_of_asked)

    def probabilities(self, by_layer: Sequence[Sequence[float]]) -> None:
        """Write down the mean probability of each action, shape `(layers, actions)`."""
        columns = ["episode", "layer", *(f"p{action}" for action in range(len(by_layer[0])))]
        self._table(PROBABILITIES, columns).write(
            {"episode": self.episodes, "layer": layer} | {f"p{action}": f"{p:.6f}" for action, p in enumerate(row)}
            for layer, row in enumerate(by_layer)
        )

    def summary(self) -> str:
        """Return where the run stands, in one line."""
        evaluated = self._evaluator.distinct_evaluations
        text = f"{evaluated} distinct evaluations, {self._evaluator.retrained} retrained"
        if self.episodes:
            text = f"episode {self.episodes} | {text}"
        if evaluated < self._recorded:
            text += f" | repeating the {self._recorded} that were recorded"
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
        for table in self._tables.values():
            table.close()

    def _count(self, steps: int) -> bool:
        self.timesteps += steps
        self._folder.reached(self._evaluator.distinct_evaluations)
        self._bar.set_description_str(self.summary(), refresh=False)
        done, goes_on = self._parts_done()
        self._bar.update(min(int(done * _PARTS), _PARTS) - int(self._bar.n))
        when, best = self._drawn
        if self._folder.best is not best and time.monotonic() - when > _DRAWING_SECONDS:
            self._redraw()
            self._drawn = (time.monotonic(), self._folder.best)
        return goes_on

    def _parts_done(self) -> tuple[float, bool]:
        """Return how much is done, by whatever is nearest to its end, and whether the run goes on.

        The agent itself counts time steps, and ends when it likes to. Repeating what was recorded takes no time.
        """
        done = self.timesteps / self._settings.timesteps
        evaluated = self._evaluator.distinct_evaluations
        spent = 0.0
        if self._settings.budget is not None:
            spent = evaluated / self._settings.budget
        if self._settings.minutes is not None and not self._folder.repeating:
            spent = max(spent, self._folder.elapsed / 60.0 / self._settings.minutes)
        return max(done, spent), spent < 1.0

    @property
    def ended_by(self) -> str:
        """What ended the run: `budget`, `minutes`, `timesteps`, or the agent itself, `agent`."""
        settings, evaluated = self._settings, self._evaluator.distinct_evaluations
        if settings.budget is not None and evaluated >= settings.budget:
            return "budget"
        if settings.minutes is not None and self._folder.elapsed / 60.0 >= settings.minutes:
            return "minutes"
        return "timesteps" if self.timesteps >= settings.timesteps else "agent"

    def _write_episode(self, info: dict[str, Any], reward: float, length: int) -> None:
        self.episodes += 1
        row: dict[str, Any] = {"r": round(reward, 6), "l": length, "t": round(time.time() - self._begun, 3)}
        row |= {key: info[key] for key in _EPISODE_KEYS} | {"bitwidths": spaced(info["bitwidths"])}
        header = json.dumps({"t_start": self._begun, "env_id": self._settings.env})
        self._table(MONITOR, ["r", "l", "t", *_EPISODE_KEYS], comment=f"#{header}\n").write([row])

    def _table(self, name: str, columns: list[str], comment: str = "") -> Table:
        if name not in self._tables:
            self._tables[name] = Table(self._folder.path / name, columns, comment=comment)
        return self._tables[name]


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
