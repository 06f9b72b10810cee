"""Measuring many assignments at once: in processes, on a Ray cluster, as one stacked model."""
