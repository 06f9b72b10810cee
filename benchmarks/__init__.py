"""Measurements of the environment and its agents; run from the checkout with `python -m`."""
