"""What is written in the same way everywhere."""

from releq_env.report.verdict import spaced

__all__ = ["MONITOR", "PROBABILITIES", "spaced"]

MONITOR = "0.monitor.csv"
PROBABILITIES = "probabilities.csv"
