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


def register_envs() -> None:
    """Register every id that is not registered yet."""
    for env_id, task in ENVIRONMENTS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="releq_env.env:ReLeQEnv",
                vector_entry_point="releq_env.vector_env:ReLeQVectorEnv",
                kwargs={"task": task},
            )
