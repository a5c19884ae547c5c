"""The data list of a prepared folder: items, tasks, labels and leakage."""
