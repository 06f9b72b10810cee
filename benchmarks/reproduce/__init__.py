"""The paper's headline, remade by the whole pipeline: search, final retraining, test data read once."""
