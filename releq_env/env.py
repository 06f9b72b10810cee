"""The decision process of ReLeQ as a Gymnasium environment."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from releq_env.cost import CostTerms
from releq_env.decision import Decision, check_rules
from releq_env.errors import check_choice
from releq_env.evaluation import Evaluation, Evaluator
from releq_env.making import make_problem
from releq_env.problem import Problem
from releq_env.render import render_ansi, render_rgb
from releq_env.reward import exceeds

if TYPE_CHECKING:
    from releq_env.tables import Answer
    from releq_env.tasks import Task


class Episode(NamedTuple):
    """Where an episode stands.

    Attributes:
        step: Steps taken; -1 before the first reset.
        choices: Every layer's choice, see `Decision`; not to be changed in place.
        evaluation: The last one of this episode, if there is one.
        objective: Of the assignment before, with `evaluate="gain"` and once it is known.
    """

    step: int
    choices: NDArray[np.int64]
    evaluation: Evaluation | None = None
    objective: float | None = None


class ReLeQEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Give every layer of a neural network its weight bitwidth.

    ## Description
    Deep quantization as in ReLeQ (Elthakeb et al., arXiv 1811.01704): the agent walks through the
    layers of a pre-trained network, first to last, and gives each one a bitwidth. The reward weighs
    how few bits are left against the validation accuracy that the quantized network reaches after a
    short retraining. Weights are quantized; activations, biases and normalisation stay in floating
    point.

    ## Action Space
    `action_mode="flexible"`: `Discrete(most choices of any layer)`, the index of the layer's bitwidth; an
    index beyond a layer's last choice means its last choice.
    `action_mode="restricted"`: `Discrete(3)`, one bitwidth down, keep, one up (at either end of the
    set a move beyond it keeps).

    `action_masks()` returns which actions have a choice of their own and can still lead to an assignment
    within `max_cost` (for sb3-contrib's MaskablePPO). The environment does not refuse the others; the
    wrapper `releq_env.WithinMask` replaces them.

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
    | q | State of Quantization: cost / cost at every layer's dearest choice | [0, 1] |
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

    With `max_cost`, an assignment with `q > max_cost` has the objective `min(objective, -1) - (q - max_cost)`:
    keep a reward of your own at or above -1, or what breaks the bound may have more than what keeps it.

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
    `reset` and `step` return, as NumPy scalars and arrays that nothing else holds:

    | key | type | meaning |
    |---|---|---|
    | `layer` | int64 | index of the layer that the observation describes; its name is in `problem.layers` |
    | `bitwidths` | int64, shape `(layers,)` | the assignment |
    | `state_of_quantization` | float64 | q |
    | `average_bits`, `weighted_bits` | float64 | mean bits of a layer, and of a weight |
    | `energy`, `bitops` | float64 | each over its value at the largest bitwidths |
    | `accuracy`, `relative_accuracy` | float64 | on validation; absent until measured in this episode |
    | `filled` | bool | with `fill=` of a table: whether they are filled in, not measured |
    | `is_success` | bool | at the last step: `a >= min_relative_accuracy`, and `q <= max_cost` if there is one |

    `env.unwrapped.problem` has the layers, choices and costs, `env.unwrapped.evaluator` counts
    (`distinct_evaluations`, `retrained`) and can be asked itself (`evaluate(bitwidths)`). Over a table
    `env.unwrapped.optimum()` and `.regret(bitwidths)` say what is best and how far from it an assignment is.

    ## Arguments
    Args:
        problem: A task's name (`"digits"`, `"mnist"`, `"fashion-mnist"`, `"cifar10"`, `"svhn"`), a `Task`, a
            `Problem`, or `"module:function"` that returns one. Beside a problem only `evaluate`,
            `action_mode`, `observation` and `render_mode` are accepted; the rest is `problem.replace(...)`.
            `None` with `table=`, whose further arguments are those of `Problem.from_table`; or with `model=`,
            `train_data=` and `validation_data=`, a network of one's own, whose further arguments are those of
            `Problem.from_network`.
        evaluate: `"episode"`, `"step"` or `"gain"`.
        action_mode: `"flexible"` or `"restricted"`.
        observation: `"paper"` or `"history"`.
        render_mode: `"human"` (prints after every step), `"ansi"` or `"rgb_array"`.
        bitwidths: To choose from, ascending: one set for all layers, a list of sets, one a layer, or a dictionary
            from layers' names to sets. Default: all the quantizer supports.
        quantizer: `"lsq"` (1 to 8 bits), `"wrpn"` or `"dorefa"` (2 to 8).
        reward: See above.
        cost: What q measures: `"mean_bits"` (the plain mean over the layers), `"weighted_bits"` (by
            weights), `"energy"` (weights * 120 + multiply-accumulates), `"bitops"`, `"bit_serial"` (cycles of
            an accelerator after Stripes), `"size"` (bytes, with the scales that the quantizer stores), or
            `"csv:PATH"`: your own measurements, columns `layer`, `bits` and `cost`.
        max_cost: Upper bound on q in (0, 1], or `None`.
        min_relative_accuracy: Accuracy constraint in (0, 1]. Default: the task's.
        retrain_images: Images seen in a short retraining; 0 is post-training quantization. Default:
            the task's.
        retrain_seed: Seeds the retraining; a tuple is several, whose accuracies are averaged, at that many times the
            cost. `reset(seed=)` never changes an accuracy.
        data_root: Folder of the data. Default: `RELEQ_DATA`, else the platform's cache folder.
        cache: File that keeps evaluations over runs and processes; `"auto"` is one in the platform's
            cache folder (or `RELEQ_CACHE`), `None` keeps them in memory.
        device: `"cpu"`, `"cuda"`, `"cuda:N"` or `"auto"`.
        precision: `"auto"` (bf16 where the processor computes in it), `"fp32"` or `"bf16"`.
        parallel: How several assignments are measured at once: `"processes"`, `"ray"` (actors on a
            Ray cluster; needs `pip install "releq_env[distributed]"`) or `"stacked"` (as one model).
        workers: How many processes or actors do it. Default: one a core (on CUDA an actor a device,
            and no further process), and processes only where they are faster.

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
    | `ReLeQ-v0` | of one's own: `model=` and data, or `problem=` | |
    | `ReLeQ-<Digits, MNIST, FashionMNIST, CIFAR10>-Tabular-v0` | the same | none: accuracies from a table |
    | `ReLeQ-Tabular-v0` | of any other table: `table=`, a path or a name | |

    ## Version History
    * v0: Initial version.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "ansi", "rgb_array"], "render_fps": 4}

    def __init__(
        self,
        problem: "Problem | Task | str" = "digits",
        *,
        evaluate: str = "episode",
        action_mode: str = "flexible",
        observation: str = "paper",
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        check_rules(evaluate, action_mode, observation)  # before anything that takes time
        self.problem = make_problem(problem, **arguments)
        self._made_here = not isinstance(problem, Problem)
        self.decision = Decision(self.problem, evaluate, action_mode, observation)
        self.evaluate, self.action_mode, self.render_mode = evaluate, action_mode, render_mode
        self.episode_steps = self.decision.episode_steps
        self.observation_space = self.decision.observer.space
        self.action_space: spaces.Discrete = spaces.Discrete(self.decision.num_actions)
        self.episode = Episode(-1, self.decision.start)

    @property
    def evaluator(self) -> Evaluator:
        """The problem's evaluator."""
        return self.problem.evaluator

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
        start = self.decision.checked_start(options)
        super().reset(seed=seed)
        self.episode = Episode(0, start)
        return self._shown(*self.decision.described(start))

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Give the layer at hand its bitwidth.

        Raises:
            gymnasium.error.ResetNeeded: Before the first `reset`, or after the episode has ended.
            gymnasium.error.InvalidAction: If the action is outside the action space.
        """
        step, choices, evaluation, objective = self.episode
        after = self._after(action)
        described = self.decision.described(after)
        terminated = step + 1 == self.episode_steps
        reward = 0.0
        if terminated or self.evaluate != "episode":
            if self.evaluate == "gain" and objective is None:
                _, objective = self._evaluated(*self.decision.described(choices))
            evaluation, reward = self._evaluated(*described)
            if objective is not None:
                reward, objective = reward - objective, reward
        # Only now: a step whose evaluation fails has not been taken.
        self.episode = Episode(step + 1, after, evaluation, objective)
        observation, info = self._shown(*described)
        return observation, reward, terminated, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are open, shape `(actions,)`: see Action Space."""
        masks: NDArray[np.bool_] = self.decision.masks([self.episode.step], self.episode.choices[None])[0]
        return masks

    def render(self) -> Any:
        """Return the assignment as bars by layer: a string (`ansi`) or an image, uint8 (H, W, 3)."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; give one of "
                f"{self.metadata['render_modes']} to gym.make(..., render_mode=...)"
            )
            return None
        return None if self.render_mode == "human" else self.drawn()  # `human` has printed it when it came about

    def close(self) -> None:
        """Release the evaluator's file and its workers. Calling it twice is fine.

        Those of a problem that was given stay: others may use it, and `problem.evaluator.close()` releases them.
        """
        if self._made_here:
            self.evaluator.close()

    def optimum(self) -> "Answer":
        """Return the best assignment of the problem's table; see `Problem.optimum`."""
        return self.problem.optimum()

    def regret(self, bitwidths: Sequence[int]) -> float:
        """Return how far the objective of an assignment is below the optimum's; see `Problem.regret`."""
        return self.problem.regret(bitwidths)

    def assignments_of_step(self, action: Any) -> list[tuple[int, ...]]:
        """Return what `step(action)` would have the evaluator measure, without taking the step.

        A vector environment can so have the assignments of all its environments measured at once.
        """
        after = self._after(action)
        if self.evaluate == "episode" and self.episode.step + 1 != self.episode_steps:
            return []
        measured = [self.episode.choices, after] if self.evaluate == "gain" else [after]
        return [tuple(self.decision.bitwidths(choices).tolist()) for choices in measured]

    def share(self, evaluator: Evaluator) -> None:
        """Measure by another evaluator, of the same accuracies, from now on; nothing keeps the one before."""
        self.problem = self.problem.sharing(evaluator)
        self.decision = Decision(self.problem, *self.decision.rules)

    def _after(self, action: Any) -> NDArray[np.int64]:
        """Return the choices after an action on the layer at hand."""
        step, choices, *_ = self.episode
        if step < 0:
            raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
        if step >= self.episode_steps:
            raise gym.error.ResetNeeded("the episode has ended; call reset() to begin another")
        return self.decision.after(step, choices, action)

    def _evaluated(self, bitwidths: NDArray[np.int64], terms: NDArray[np.float64]) -> tuple[Evaluation, float]:
        """Return the evaluation of an assignment, and its objective."""
        evaluation = self.evaluator.evaluate(tuple(bitwidths.tolist()))
        return evaluation, float(self.problem.value(evaluation.relative_accuracy, terms.item(0)))

    def _described(
        self, bitwidths: NDArray[np.int64], terms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the observation and the info of the current state, given its bitwidths and cost terms."""
        step, _, evaluation, _ = self.episode
        layer = self.decision.layer_at(step)
        info: dict[str, Any] = {"layer": self.decision.numbers[layer], "bitwidths": bitwidths}
        info.update(zip(CostTerms.names, terms))  # noqa: B905  # of equal length; checking it takes time
        relative = 1.0
        if evaluation is not None:
            relative = evaluation.relative_accuracy
            info["accuracy"], info["relative_accuracy"] = np.float64(evaluation.accuracy), np.float64(relative)
            if self.problem.filled is not None:
                info["filled"] = bool(self.problem.filled(evaluation.bitwidths))
            if step == self.episode_steps:
                kept = not exceeds(terms.item(0), self.problem.max_cost or 1.0)  # q is never above 1
                info["is_success"] = bool(kept and relative >= self.problem.min_relative_accuracy)
        return self.decision.observer(layer, bitwidths.tolist(), terms.item(0), relative), info

    def _shown(
        self, bitwidths: NDArray[np.int64], terms: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        observation, info = self._described(bitwidths, terms)
        if self.render_mode == "human":
            print(self.drawn())
        return observation, info

    def drawn(self) -> Any:
        """Return what `render` draws."""
        described = self.decision.described(self.episode.choices)
        draw = render_rgb if self.render_mode == "rgb_array" else render_ansi
        return draw(self.problem.layers, self.decision.observer.largest, self._described(*described)[1])
