"""The cost of a training step: operations and memory counted exactly, times measured in turn."""

from studies.benchmark.step_cost import StepCost, training_step_cost

__all__ = ["StepCost", "training_step_cost"]
