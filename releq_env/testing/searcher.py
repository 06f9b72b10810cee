"""What every searcher has to keep to."""

import itertools
from typing import Any

import pytest

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers import Searcher, search_loop
from releq_env.testing.problems import PROBLEMS, best_merit, feasible, plain


class SearcherContract:
    """Subclass it in a test module under a name that begins with `Test`, and override `make`.

    Attributes:
        is_random: Whether another seed leads to another search.
        is_complete: Whether it goes on until every assignment has been asked for.
        repeats: Whether it may ask for an assignment twice.
    """

    is_random = True
    is_complete = True
    repeats = False

    def make(self, problem: Problem, seed: int) -> Searcher:
        """Return a new searcher."""
        raise NotImplementedError("return a searcher of the problem, made with the seed")

    @pytest.fixture(params=list(PROBLEMS))
    def problem(self, request: Any) -> Problem:
        """What is searched; override it to search something else."""
        return PROBLEMS[request.param]()

    def search(self, problem: Problem, seed: int = 0, *, budget: int | None = None, batch: int = 1) -> list[Evaluation]:
        """Return what is evaluated; arguments are those of `search_loop`."""
        found: list[Evaluation] = []
        for told in search_loop(problem, self.make(problem, seed), budget=budget, batch=batch):
            found += told
            if self.repeats and len(found) >= 5 * (
                budget or 100
            ):  # where little is left, it may repeat itself for long
                break
        return found

    def first(self, problem: Problem, count: int, seed: int = 0) -> list[tuple[int, ...]]:
        """Return the first assignments of a search; less than `count` if there are no more."""
        told = itertools.chain.from_iterable(search_loop(problem, self.make(problem, seed)))
        return [evaluation.bitwidths for evaluation in itertools.islice(told, count)]

    @pytest.mark.parametrize("n", [1, 4])
    def test_asks_for_at_most_n_and_at_least_one(self, problem: Problem, n: int) -> None:
        assert 1 <= len(self.make(problem, 0).ask(n)) <= n

    @pytest.mark.parametrize("batch", [1, 5])
    def test_keeps_max_cost(self, problem: Problem, batch: int) -> None:
        assert all(problem.keeps_max_cost(each.bitwidths) for each in self.search(problem, budget=40, batch=batch))

    @pytest.mark.parametrize("batch", [1, 5])
    def test_asks_for_nothing_twice(self, problem: Problem, batch: int) -> None:
        if self.repeats:
            pytest.skip("it may")
        found = [each.bitwidths for each in self.search(problem, budget=40, batch=batch)]
        assert len(found) == len(set(found))

    def test_the_same_seed_and_the_same_accuracies_make_the_same_search(self, problem: Problem) -> None:
        """Whether they were measured, as the first time, or remembered, as when a run is resumed."""
        first, again = (self.first(problem, 30) for _ in range(2))
        assert first == again
        assert problem.evaluator.distinct_evaluations == len(set(first))

    def test_another_seed_makes_another_search(self) -> None:
        if not self.is_random:
            pytest.skip("nothing of it is drawn")
        first = self.first(plain(), 40)
        assert any(self.first(plain(), 40, seed) != first for seed in range(1, 5))

    def test_a_small_space_is_searched_completely(self, problem: Problem) -> None:
        if not self.is_complete:
            pytest.skip("it does not have to")
        found = {each.bitwidths for each in self.search(problem, batch=3)}
        assert found == set(feasible(problem))

    def test_finds_the_optimum(self, problem: Problem) -> None:
        if not self.is_complete:
            pytest.skip("it does not have to")
        found = self.search(problem, budget=300, batch=2)
        assert problem.merit(max(found, key=problem.merit)) == best_merit(problem)

    def test_many_layers_under_a_tight_bound(self) -> None:
        problem = Problem.from_function(30, list(range(1, 9)), lambda bitwidths: 0.9, max_cost=0.2)
        found = self.search(problem, budget=20, batch=4)
        assert len({each.bitwidths for each in found}) == 20 or not self.is_complete
        assert all(problem.keeps_max_cost(each.bitwidths) for each in found)

    def test_accuracies_that_are_all_alike(self) -> None:
        problem = Problem.from_function(3, [2, 4, 8], lambda bitwidths: 0.5)
        assert self.search(problem, budget=15)

    def test_a_single_assignment(self) -> None:
        problem = Problem.from_function(2, [4], lambda bitwidths: 0.9)
        assert {each.bitwidths for each in self.search(problem, budget=3)} == {(4, 4)}

    def test_an_objective_that_is_no_number(self) -> None:
        problem = plain(reward=lambda a, q: float("nan") if q < 0.5 else a - q)
        found = self.search(problem, budget=30)
        assert found

    def test_recommends_what_was_told(self) -> None:
        problem = plain()
        searcher: Any = self.make(problem, 0)
        if not hasattr(searcher, "recommend"):
            pytest.skip("it recommends nothing: the best is the answer")
        assert searcher.recommend() is None
        found = [each.bitwidths for told in search_loop(problem, searcher, budget=12) for each in told]
        assert searcher.recommend() in found
