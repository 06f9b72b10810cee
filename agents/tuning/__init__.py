"""Tuning of hyperparameters: ranges, a score, and trials that outlive a kill."""
