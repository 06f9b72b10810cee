"""Searches that ask for assignments and are told their evaluations; they need no environment."""

from releq_env.searchers.base import Searcher, search_loop
from releq_env.searchers.registry import SEARCHERS, make_searcher

__all__ = ["SEARCHERS", "Searcher", "make_searcher", "search_loop"]
