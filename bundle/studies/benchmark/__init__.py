"""The cost of a training step: operations and memory counted exactly, times measured in turn."""
