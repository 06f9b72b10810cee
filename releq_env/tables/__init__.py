"""Measured accuracies of every (or many) assignments, and what can be said exactly because they are known."""

from releq_env.tables.landscape import Answer, Landscape
from releq_env.tables.source import TableSource
from releq_env.tables.table import AccuracyTable

__all__ = ["AccuracyTable", "Answer", "Landscape", "TableSource"]
