"""Training losses, and the loss of baselines without a network."""
