"""From a trained model and a user's images to probabilities, maps and tables."""
