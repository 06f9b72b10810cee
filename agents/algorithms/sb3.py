"""What the adapters of Stable-Baselines3's two families have in common."""

import inspect
import io
import pkgutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # what torch raises for anything but weights
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms.base import Progress
from agents.algorithms.numbers import checked_numbers
from releq_env.errors import ReLeQError, short
from releq_env.sb3_vec_env import ReLeQVecEnv


class SB3Agent:
    """An algorithm of Stable-Baselines3 as an `EnvAgent`.

    Args:
        algorithm: Its class.
        venv: The environments.
        seed: Seeds the algorithm, the environments and the global generators.
        policy: As Stable-Baselines3 takes it.
        written_for: Environments side by side that the hyperparameters are written for. Default: as many as there are.
        callback: As rl-baselines3-zoo takes it: the path of a class, `{path: arguments}`, or a list of these.
        **hyperparams: Of the algorithm.

    Attributes:
        continuous: Whether its actions are numbers.
        venv: The environments.
        written_for: As given.
        model: The model.

    Raises:
        ReLeQError: If the algorithm does not take a hyperparameter.
    """

    continuous = False

    def __init__(
        self,
        algorithm: type[BaseAlgorithm],
        venv: ReLeQVecEnv,
        seed: int,
        *,
        policy: str = "MlpPolicy",
        written_for: int | None = None,
        callback: Any = None,
        **hyperparams: Any,
    ) -> None:
        torch.set_num_threads(1)  # the networks are tiny; the cores belong to the retraining
        self.venv = venv
        self.written_for = written_for or venv.num_envs
        self._callbacks = _callbacks(callback)
        hyperparams = checked_numbers(algorithm, hyperparams)
        try:
            self.model = algorithm(policy, venv, seed=seed, device="cpu", **self.fitted(hyperparams))
        except (TypeError, ValueError, AssertionError) as error:
            raise ReLeQError(f"{algorithm.__name__} does not take its hyperparameters ({error})") from error

    def fitted(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters fitted to the length of an episode."""
        return hyperparams

    def tracker(self, progress: Progress) -> "Track":
        """Return the callback that keeps the run informed."""
        return Track(progress)

    def whole_episodes(self, steps: int) -> int:
        """Return a number of steps in each environment rounded up to whole episodes."""
        episode = self.venv.releq_envs[0].episode_steps
        return -(-steps // episode) * episode

    def learn(self, timesteps: int, progress: Progress) -> None:
        """Train until the time steps are used up, or the run is to end."""
        model: Any = self.model  # one of its methods is replaced for the time of the run
        length = progress.schedule_timesteps

        def remaining(done: int, total: int) -> None:
            model._current_progress_remaining = 1.0 - min(done / length, 1.0)

        model._update_current_progress_remaining = remaining
        try:
            model.learn(timesteps, callback=[self.tracker(progress), *self._callbacks])
        finally:
            del model._update_current_progress_remaining  # or it would be saved with the model

    @property
    def has_learned(self) -> bool:
        """Whether it was updated at all: off-policy agents begin with random steps, `learning_starts` of them."""
        return bool(self.model._n_updates)

    def save(self, path: Path) -> None:
        """Save the model; the file holds pickles, which `load` leaves alone."""
        content = io.BytesIO()  # given a path, Stable-Baselines3 leaves the file open where a disk is full
        self.model.save(content)
        path.write_bytes(content.getvalue())

    def load(self, path: Path) -> None:
        """Take up the weights of a policy that `save` has kept. Nothing else of the file is read, and no pickle.

        Raises:
            ReLeQError: If the file is none, or of another policy.
        """
        try:
            with zipfile.ZipFile(path) as saved, saved.open("policy.pth") as weights:
                state = torch.load(io.BytesIO(weights.read()), map_location="cpu", weights_only=True)
            self.model.policy.load_state_dict(state)
        except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, ValueError, TypeError, UnpicklingError) as error:
            raise ReLeQError(
                f"{path} holds no policy that these hyperparameters make ({type(error).__name__}: {short(error)}); "
                "give the folder of a finished run as it was left"
            ) from error

    def act(
        self, observations: Any, state: Any, begins: Any, masks: Any, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the policy's actions, and the state that it wants back at the next step.

        Args:
            observations: Of all environments, shape `(n_envs, features)`.
            state: What the call before has returned, at first `None`.
            begins: Which environments are at the beginning of an episode, shape `(n_envs,)`.
            masks: Which actions are open, shape `(n_envs, actions)`; an algorithm that cannot mask leaves them alone.
            deterministic: Whether to take the likeliest actions, not to draw.
        """
        predict: Any = self.model.predict  # of those that mask it takes one argument more
        more = {"action_masks": masks} if "action_masks" in inspect.signature(predict).parameters else {}
        return predict(observations, state=state, episode_start=begins, deterministic=deterministic, **more)


class Track(BaseCallback):
    """Tells the run of every step.

    Args:
        progress: The run's.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def _on_training_start(self) -> None:
        self.model._total_timesteps = self.progress.schedule_timesteps  # read by schedules and callbacks

    def _on_step(self) -> bool:
        if np.isnan(self.locals["rewards"]).any():
            raise ReLeQError(
                "a reward is NaN, from which nothing can be learned; give a reward that is always a number"
            )
        return self.progress.step(self.locals["rewards"], self.locals["dones"], self.locals["infos"])


def _callbacks(named: Any) -> list[BaseCallback]:
    callbacks = []
    for each in named if isinstance(named, list) else [named] if named else []:
        for path, arguments in each.items() if isinstance(each, Mapping) else [(each, None)]:
            try:
                callbacks.append(pkgutil.resolve_name(path)(**(arguments or {})))
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                raise ReLeQError(
                    f"callback {path!r} cannot be made ({error}); name a class and its arguments"
                ) from error
    return callbacks
