"""Optuna's NSGA-II: a population that spreads along the front of accuracy and cost."""

from typing import Any

from releq_env.problem import Problem
from releq_env.searchers.optuna_study import OptunaSearch


class NSGA2(OptunaSearch):
    """The genetic algorithm of Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation, 2002.

    Maximises accuracy and minimises cost, and knows nothing of the objective, nor of the accuracy constraint: its
    answer is what has the best objective on the way. That it spends itself on the whole front is its use, and its
    price.

    Args:
        problem: What is searched.
        seed: Seeds it.
        population: How many a generation has.
        mutation: Probability that a layer of a child is drawn anew; `None`: 1 over the number of layers.
        crossover: Probability that a child has two parents.

    Raises:
        ReLeQError: If Optuna is not installed.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        population: int = 20,
        mutation: float | None = None,
        crossover: float = 0.9,
    ) -> None:
        def make_sampler(optuna: Any, seed: int) -> Any:
            return optuna.samplers.NSGAIISampler(
                seed=seed, population_size=population, mutation_prob=mutation, crossover_prob=crossover
            )

        super().__init__(
            problem,
            seed,
            startup=population,
            make_sampler=make_sampler,
            directions=["maximize", "minimize"],
            values=lambda evaluation: [
                evaluation.accuracy,
                problem.state_of_quantization(evaluation.bitwidths),
            ],
            tell_known=True,
        )
