"""The study that chose the recipe and the budget of the short retraining, on validation images only."""
