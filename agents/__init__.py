"""Searches on the ReLeQ environments; run from the checkout with `python -m agents.train`."""
