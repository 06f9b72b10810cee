"""Retraining a quantized network for a short while, and measuring it."""
