"""What a training step costs: operations and memory by exact counts, time by interleaved measurement."""

from studies.benchmark.step_cost import StepCost, training_step_cost

__all__ = ["StepCost", "training_step_cost"]
