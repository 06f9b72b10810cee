"""The report of a search: one HTML file that needs nothing else. Reads files; needs no torch."""

from releq_env.report.page import render, write_report
from releq_env.report.reading import read_run
from releq_env.report.run import Run

__all__ = ["Run", "read_run", "render", "write_report"]
