"""What is written and drawn of a run."""
