"""Measured costs of layers, and a table of all costs."""
