"""The registered ids: a table and a loop."""

import gymnasium as gym

ENVIRONMENTS: dict[str, str] = {
    "ReLeQ-Digits-v0": "digits",
    "ReLeQ-MNIST-v0": "mnist",
    "ReLeQ-FashionMNIST-v0": "fashion-mnist",
    "ReLeQ-CIFAR10-v0": "cifar10",
    "ReLeQ-SVHN-v0": "svhn",
}
"""Task by id."""


TABULAR: dict[str, str] = {
    "ReLeQ-Digits-Tabular-v0": "digits",
    "ReLeQ-MNIST-Tabular-v0": "mnist",
    "ReLeQ-FashionMNIST-Tabular-v0": "fashion-mnist",
    "ReLeQ-CIFAR10-Tabular-v0": "cifar10",
}
"""Table by id: no data, no training, no torch, and the optimum is known."""


OWN = "ReLeQ-v0"
"""The id for a network or a problem of one's own.

`gym.make("releq_env:ReLeQ-v0", model=..., train_data=..., validation_data=...)`, with the arguments of
`Problem.from_network`; or `problem=...`.
"""


OWN_TABLE = "ReLeQ-Tabular-v0"
"""The id for any other table: `gym.make("releq_env:ReLeQ-Tabular-v0", table=...)`, its path or its name."""


def register_envs() -> None:
    """Register every id that is not registered yet."""
    problems: dict[str, dict[str, str | None]] = {env_id: {"problem": task} for env_id, task in ENVIRONMENTS.items()}
    problems |= {env_id: {"problem": None, "own_table": table} for env_id, table in TABULAR.items()}
    problems |= {OWN: {"problem": None}, OWN_TABLE: {"problem": None, "own_table": None}}
    for env_id, kwargs in problems.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="releq_env.env:ReLeQEnv",
                vector_entry_point="releq_env.vector_env:ReLeQVectorEnv",
                kwargs=kwargs,
            )
