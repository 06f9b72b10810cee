"""How fast evaluating is, beside everything it is compared with: `python -m benchmarks.speed`."""
