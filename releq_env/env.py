"""The decision process of ReLeQ as a Gymnasium environment."""

import operator
import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from releq_env.cost import COSTS, Cost, CostTerms
from releq_env.errors import ReLeQError, check_choice
from releq_env.evaluation import Evaluation, Evaluator, check_parallel, make_evaluator
from releq_env.observation import Observer
from releq_env.quantization import check_bitwidths
from releq_env.render import render_ansi, render_rgb
from releq_env.reward import Objective, check_fraction, exceeds, make_objective
from releq_env.tasks import Task, get_task, load_pretrained

EVALUATE = ("episode", "step", "gain")
ACTION_MODES = ("flexible", "restricted")


class ReLeQEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Give every layer of a neural network its weight bitwidth.

    ## Description
    Deep quantization as in ReLeQ (Elthakeb et al., arXiv 1811.01704): the agent walks through the
    layers of a pre-trained network, first to last, and gives each one a bitwidth. The reward weighs
    how few bits are left against the validation accuracy that the quantized network reaches after a
    short retraining. Weights are quantized; activations, biases and normalisation stay in floating
    point.

    ## Action Space
    `action_mode="flexible"`: `Discrete(len(bitwidths))`, the index of the layer's bitwidth.
    `action_mode="restricted"`: `Discrete(3)`, one bitwidth down, keep, one up (at either end of the
    set a move beyond it keeps).

    `action_masks()` returns which actions can still lead to an assignment within `max_cost`
    (for sb3-contrib's MaskablePPO).

    ## Observation Space
    `observation="paper"`: a `Box`, float32, of eight features of the layer at hand:

    | feature | meaning | bounds |
    |---|---|---|
    | index | layer index / (layers - 1) | [0, 1] |
    | n | output channels or features / the largest of any layer | [0, 1] |
    | c | input channels or features / the largest of any layer | [0, 1] |
    | k | kernel size (0: fully connected) / the largest of any layer | [0, 1] |
    | std | standard deviation of the layer's weights / the largest of any layer | [0, 1] |
    | bitwidth | the layer's current bitwidth / the largest bitwidth | [0, 1] |
    | q | State of Quantization: cost / cost at the largest bitwidth | [0, 1] |
    | a | State of Relative Accuracy, 1.0 until measured in this episode | [0, 1 / full-precision accuracy] |

    `observation="history"` adds every layer's bitwidth / the largest bitwidth: without memory the
    paper's state is not Markov. The terminal observation is that of the last layer with its bits.

    ## Starting State
    Every layer has the largest bitwidth (`flexible`) or the middle one of the set (`restricted`), or
    what `reset(options={"bitwidths": [...]})` says. Layers not yet visited keep theirs, so every
    prefix of an episode is an ordinary assignment.

    ## Rewards
    With q and a as above, the objective of an assignment is, by `reward`:

    - `"constrained"` (default): `1 - q**0.2` where `a >= min_relative_accuracy`, else
      `(a - min) / min`, in [-1, 0);
    - `"shaped"`, `"ratio"`, `"difference"` (as we read the paper), `"released"` (the authors' code);
    - any callable `(a, q) -> float`.

    With `max_cost`, an assignment with `q > max_cost` has a negative objective.

    When it is paid depends on `evaluate`:

    - `"episode"` (default): 0.0 until the last step, then the objective: the return is the objective;
    - `"step"` (the paper's way): the objective of every prefix. The return sums over prefixes, so
      its best policy need not give the best assignment;
    - `"gain"`: the change of the objective since the prefix before. Dense; the return is the
      objective less that of the starting state.

    `"step"` and `"gain"` measure every prefix, `"episode"` one assignment an episode.

    ## Episode End
    The last layer's step ends the episode with `terminated=True` (`restricted`: the last step of
    enough passes over the layers to reach either end of the set). Episodes are never truncated.

    ## Information
    `reset` and `step` return `layer` (name of the layer the observation describes), `bitwidths` (the
    assignment, a tuple), `state_of_quantization`, the cost terms `average_bits`, `weighted_bits`
    (mean bits of a weight), `energy` and `bitops` (each over its value at the largest bitwidth); once
    measured, `accuracy` and `relative_accuracy`; at the last step `is_success`
    (`a >= min_relative_accuracy`, and `q <= max_cost` if there is one).

    ## Arguments
    Args:
        task: `"digits"`, `"mnist"`, `"fashion-mnist"`, `"cifar10"`, `"svhn"`, or a `Task`.
        bitwidths: The set to choose from, ascending. Default: all the quantizer supports.
        quantizer: `"lsq"` (1 to 8 bits), `"wrpn"` or `"dorefa"` (2 to 8).
        reward: See above.
        cost: What q measures: `"mean_bits"` (the plain mean over the layers), `"weighted_bits"` (by
            weights), `"energy"` (weights * 120 + multiply-accumulates) or `"bitops"`.
        max_cost: Upper bound on q in (0, 1], or `None`.
        min_relative_accuracy: Accuracy constraint in (0, 1]. Default: the task's.
        evaluate: `"episode"`, `"step"` or `"gain"`.
        action_mode: `"flexible"` or `"restricted"`.
        observation: `"paper"` or `"history"`.
        retrain_images: Images seen in a short retraining; 0 is post-training quantization. Default:
            the task's.
        retrain_seed: Seeds the retraining. `reset(seed=)` never changes an accuracy.
        data_root: Folder of the data. Default: `RELEQ_DATA`, else the platform's cache folder.
        cache: File that keeps evaluations over runs and processes; `"auto"` is one in the platform's
            cache folder (or `RELEQ_CACHE`), `None` keeps them in memory.
        device: `"cpu"`, `"cuda"`, `"cuda:N"` or `"auto"`.
        precision: `"auto"` (bf16 where the processor computes in it), `"fp32"` or `"bf16"`.
        parallel: How several assignments are measured at once: `"processes"`, `"ray"` (actors on a
            Ray cluster; needs `pip install "releq_env[distributed]"`) or `"stacked"` (as one model).
        workers: How many processes or actors do it. Default: one a core (on CUDA an actor a device,
            and no further process), and processes only where they are faster.
        evaluator: Measures assignments instead of retraining them; see
            `releq_env.evaluation.Evaluator`.
        render_mode: `"human"` (prints after every step), `"ansi"` or `"rgb_array"`.

    Raises:
        ReLeQError: From `gym.make`, in one line, if an argument is not accepted.

    ## Registered Configurations
    | id | network | data |
    |---|---|---|
    | `ReLeQ-Digits-v0` | a small conv net of 4 layers | scikit-learn's digits, on disk with the library |
    | `ReLeQ-MNIST-v0` | LeNet | MNIST |
    | `ReLeQ-FashionMNIST-v0` | LeNet | Fashion-MNIST |
    | `ReLeQ-CIFAR10-v0` | SimpleNet | CIFAR-10 |
    | `ReLeQ-SVHN-v0` | SVHN-8 | SVHN |

    ## Version History
    * v0: Initial version.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 4}

    def __init__(
        self,
        task: str | Task = "digits",
        *,
        bitwidths: Sequence[int] | None = None,
        quantizer: str = "lsq",
        reward: str | Objective = "constrained",
        cost: str = "mean_bits",
        max_cost: float | None = None,
        min_relative_accuracy: float | None = None,
        evaluate: str = "episode",
        action_mode: str = "flexible",
        observation: str = "paper",
        retrain_images: int | None = None,
        retrain_seed: int = 0,
        data_root: str | os.PathLike[str] | None = None,
        cache: str | None = "auto",
        device: str = "cpu",
        precision: str = "auto",
        parallel: str = "processes",
        workers: int | None = None,
        evaluator: Evaluator | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.task = get_task(task)
        if evaluator is not None and not isinstance(evaluator, Evaluator):
            raise ReLeQError(f"evaluator={evaluator!r} is not a releq_env.evaluation.Evaluator; see its methods")
        if data_root is not None and not isinstance(data_root, str | os.PathLike):
            raise ReLeQError(f"data_root={data_root!r} is not a path; give the folder of the data")
        self.bitwidths = check_bitwidths(bitwidths, quantizer)
        check_choice("evaluate", evaluate, EVALUATE)
        check_choice("action_mode", action_mode, ACTION_MODES)
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.evaluate, self.action_mode, self.render_mode = evaluate, action_mode, render_mode
        self.max_cost = None if max_cost is None else check_fraction("max_cost", max_cost)
        self.min_relative_accuracy = check_fraction(
            "min_relative_accuracy",
            self.task.min_relative_accuracy if min_relative_accuracy is None else min_relative_accuracy,
        )
        self._objective = make_objective(
            reward,
            min_relative_accuracy=self.min_relative_accuracy,
            bitwidths=self.bitwidths,
            max_cost=self.max_cost,
            released_constants=self.task.released_constants,
        )
        check_choice("cost", cost, COSTS)  # before anything that takes time
        check_parallel(parallel, workers)
        pretrained = load_pretrained(self.task, data_root)
        self.layers = pretrained.layers
        self._cost = Cost(cost, self.layers, self.bitwidths[-1])
        self._terms = CostTerms(self._cost, self.layers)
        smallest = self._cost([self.bitwidths[0]] * len(self.layers))
        if self.max_cost is not None and exceeds(smallest, self.max_cost):
            raise ReLeQError(
                f"max_cost={max_cost!r} cannot be met: {self.bitwidths[0]} bits everywhere cost {smallest:.4f}; "
                f"give a number in [{smallest:.4f}, 1]"
            )
        self._observer = Observer(observation, self.layers, self.bitwidths[-1], pretrained.accuracy)
        self.observation_space = self._observer.space
        self.evaluator: Evaluator = evaluator or make_evaluator(
            self.task,
            pretrained,
            quantizer=quantizer,
            retrain_images=retrain_images,
            retrain_seed=retrain_seed,
            data_root=data_root,
            cache=cache,
            device=device,
            precision=precision,
            parallel=parallel,
            workers=workers,
        )
        middle = (len(self.bitwidths) - 1) // 2
        if action_mode == "flexible":
            self.action_space: spaces.Discrete = spaces.Discrete(len(self.bitwidths))
            self._start = [self.bitwidths[-1]] * len(self.layers)
            passes = 1
        else:
            self.action_space = spaces.Discrete(3)
            self._start = [self.bitwidths[middle]] * len(self.layers)
            passes = max(middle, len(self.bitwidths) - 1 - middle, 1)
        self._actions = int(self.action_space.n)  # the space's own is a NumPy number, slow to compare with
        self.episode_steps = passes * len(self.layers)
        self._step = -1  # number of steps taken in this episode; -1 before the first reset
        self._assignment = list(self._start)
        self._evaluation: Evaluation | None = None
        self._last_objective: float | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds `np_random`; no accuracy depends on it.
            options: `{"bitwidths": [...]}` gives the starting assignment.

        Raises:
            ReLeQError: If the starting assignment does not fit.
        """
        super().reset(seed=seed)
        start = self._checked_options(options).get("bitwidths")
        self._assignment = list(self._start) if start is None else self._checked(start)
        self._step = 0
        self._evaluation = None
        self._last_objective = None
        self._print()
        return self._described()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Give the layer at hand its bitwidth.

        Raises:
            gymnasium.error.ResetNeeded: Before the first `reset`, or after the episode has ended.
            gymnasium.error.InvalidAction: If the action is outside the action space.
        """
        after = self._after(action)
        terminated = self._step + 1 == self.episode_steps
        reward = 0.0
        if terminated or self.evaluate != "episode":
            if self.evaluate == "gain" and self._last_objective is None:
                self._last_objective = self.objective(self.evaluator.evaluate(tuple(self._assignment)))
            self._evaluation = self.evaluator.evaluate(tuple(after))
            reward = objective = self.objective(self._evaluation)
            if self._last_objective is not None:
                reward, self._last_objective = objective - self._last_objective, objective
        # Only now: a step whose evaluation fails has not been taken.
        self._assignment = after
        self._step += 1
        self._print()
        observation, info = self._described()
        return observation, reward, terminated, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions can still lead to an assignment within `max_cost`, shape `(actions,)`."""
        if self.max_cost is None or self._step < 0 or self._step >= self.episode_steps:
            return np.ones(self._actions, dtype=np.bool_)
        allowed = [self.within_max_cost(self._cheapest_end(action)) for action in range(self._actions)]
        # If the starting state has put it out of reach, at least go down.
        return np.array(allowed if any(allowed) else [action == 0 for action in range(self._actions)])

    def render(self) -> Any:
        """Return the assignment as bars by layer: a string (`ansi`) or an image, uint8 (H, W, 3)."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; give one of "
                f"{self.metadata['render_modes']} to gym.make(..., render_mode=...)"
            )
            return None
        if self.render_mode == "rgb_array":
            return render_rgb(self.layers, self._assignment, self.bitwidths[-1], self._position(), self._described()[1])
        text = render_ansi(self.layers, self._assignment, self.bitwidths[-1], self._position(), self._described()[1])
        if self.render_mode == "ansi":
            return text
        print(text)
        return None

    def close(self) -> None:
        """Release the evaluator's file and its workers. Calling it twice is fine."""
        self.evaluator.close()

    def objective(self, evaluation: Evaluation) -> float:
        """Return the objective of an evaluated assignment."""
        return float(self._objective(evaluation.relative_accuracy, self.state_of_quantization(evaluation.bitwidths)))

    def state_of_quantization(self, bitwidths: Sequence[int]) -> float:
        """Return q of an assignment, in (0, 1]."""
        return self._cost(bitwidths)

    def within_max_cost(self, bitwidths: Sequence[int]) -> bool:
        """Return whether an assignment keeps `max_cost`."""
        return self.max_cost is None or not exceeds(self._cost(bitwidths), self.max_cost)

    def assignments_of_step(self, action: Any) -> list[tuple[int, ...]]:
        """Return what `step(action)` would have the evaluator measure, without taking the step.

        A vector environment can so have the assignments of all its environments measured at once.
        """
        after = tuple(self._after(action))
        if self.evaluate == "episode":
            return [after] if self._step + 1 == self.episode_steps else []
        return [tuple(self._assignment), after] if self.evaluate == "gain" else [after]

    def _position(self) -> int:
        """Return the layer at hand; the last one at the end of an episode."""
        return max(self._step, 0) % len(self.layers) if self._step < self.episode_steps else len(self.layers) - 1

    def _after(self, action: Any) -> list[int]:
        """Return the assignment after an action on the layer at hand."""
        if self._step < 0:
            raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
        if self._step >= self.episode_steps:
            raise gym.error.ResetNeeded("the episode has ended; call reset() to begin another")
        value = action.item() if isinstance(action, np.ndarray | np.generic) and action.size == 1 else action
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < self._actions:
            raise gym.error.InvalidAction(
                f"action {' '.join(repr(action).split())} is outside the action space; "
                f"give a whole number from 0 to {self._actions - 1}"
            )
        assignment = list(self._assignment)
        layer = self._position()
        assignment[layer] = self._moved(assignment[layer], value)
        return assignment

    def _moved(self, bits: int, action: int) -> int:
        if self.action_mode == "flexible":
            return self.bitwidths[action]
        index = self.bitwidths.index(bits) + action - 1
        return self.bitwidths[min(max(index, 0), len(self.bitwidths) - 1)]

    def _cheapest_end(self, action: int) -> list[int]:
        """Return the cheapest assignment that the episode can still end with after an action."""
        assignment = self._after(action)
        for step in range(self._step + 1, self.episode_steps):
            layer = step % len(self.layers)
            assignment[layer] = self._moved(assignment[layer], 0)
        return assignment

    def _checked_options(self, options: Any) -> dict[str, Any]:
        accepted = 'give {"bitwidths": [...]} or nothing'
        if options is None:
            return {}
        if not isinstance(options, dict) or not set(options) <= {"bitwidths"}:
            raise ReLeQError(f"reset got options={options!r}; {accepted}")
        return options

    def _checked(self, bitwidths: Sequence[int]) -> list[int]:
        accepted = f"give {len(self.layers)} bitwidths, one a layer, out of {self.bitwidths}"
        try:
            assignment = [operator.index(bits) for bits in bitwidths]
        except (TypeError, ValueError):
            raise ReLeQError(f"options bitwidths={bitwidths!r} is not a list of integers; {accepted}") from None
        if len(assignment) != len(self.layers) or not set(assignment) <= set(self.bitwidths):
            raise ReLeQError(f"options bitwidths={assignment} does not fit; {accepted}")
        return assignment

    def _described(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the observation and the info of the current state."""
        position = self._position()
        terms = self._terms(self._assignment).tolist()
        info: dict[str, Any] = {"layer": self.layers[position].name, "bitwidths": tuple(self._assignment)}
        info.update(zip(CostTerms.names, terms, strict=True))
        relative = 1.0
        if self._evaluation is not None:
            relative = self._evaluation.relative_accuracy
            info["accuracy"], info["relative_accuracy"] = self._evaluation.accuracy, relative
            if self._step == self.episode_steps:
                info["is_success"] = bool(
                    relative >= self.min_relative_accuracy and self.within_max_cost(self._assignment)
                )
        return self._observer(position, self._assignment, terms[0], relative), info

    def _print(self) -> None:
        if self.render_mode == "human":
            self.render()
