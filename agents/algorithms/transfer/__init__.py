"""A policy that is trained on other networks and searches a new one within 20 evaluations."""
