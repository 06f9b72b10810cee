"""Whether the fast evaluation measures what a plain one measures: `python -m benchmarks.fidelity`."""
