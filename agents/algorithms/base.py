"""What the run and an agent ask of each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from releq_env.sb3_vec_env import ReLeQVecEnv
    from releq_env.workers.waiting import Assignment


class Progress(Protocol):
    """What an agent tells the run, and asks of it.

    Attributes:
        schedule_timesteps: Time steps of the run as it was begun: the length of every schedule, however
            long the run becomes by resuming.
    """

    schedule_timesteps: int

    def step(self, rewards: Any, dones: Any, infos: Any) -> bool:
        """Take up a step of all environments, as they returned it; `False` if the run is to end."""
        ...

    def asked(self, assignments: int) -> bool:
        """Count assignments that a searcher has asked for; `False` if the run is to end."""
        ...

    def probabilities(self, by_layer: Any) -> None:
        """Write down the mean probability of each action, shape `(layers, actions)`."""
        ...


class EnvAgent(Protocol):
    """Learns on the environments. What it does is a function of its seed: a run is resumed by repeating it.

    It is made as `factory(venv, seed, **hyperparameters)`. A factory with `masks = True` keeps `max_cost` by the
    environments' `action_masks()`; else the environments replace closed actions.
    """

    def __init__(self, venv: "ReLeQVecEnv", seed: int, **hyperparameters: Any) -> None: ...

    def learn(self, timesteps: int, progress: Progress) -> None:
        """Learn for that many steps over all environments, or until `progress.step` says to end."""
        ...

    @property
    def has_learned(self) -> bool:
        """Whether it has learned anything yet; if not, the run says so. It may do without."""
        ...

    def save(self, path: Path) -> None:
        """Keep what was learned in a file. An agent may do without."""
        ...

    def load(self, path: Path) -> None:
        """Take up what `save` has kept, without running what is in the file. With `act`; an agent may do without."""
        ...

    def act(
        self, observations: Any, state: Any, begins: Any, masks: Any, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the actions of what was learned, and the state for the next call; see `SB3Agent`.

        An agent may do without, and is then not played by `agents.enjoy`.
        """
        ...

    def recommend(self) -> "Assignment | None":
        """Return what it recommends of the assignments that were measured; `None`: the best. It may do without."""
        ...
