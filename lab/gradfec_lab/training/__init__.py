"""Training of the importance estimators: targets from the oracle, recipes, checkpoints."""
