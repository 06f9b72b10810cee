"""Accuracy first: whatever is lost of it weighs ten times as much as what is saved."""

from releq_env.reward import REWARDS, Objective, RewardSettings


def careful(settings: RewardSettings) -> Objective:
    def objective(a: float, q: float) -> float:
        return (1.0 - q) - 10.0 * max(settings.min_relative_accuracy - a, 0.0)

    return objective


REWARDS["careful"] = careful
