"""What a training step costs: operations and memory by exact counts, time by interleaved measurement."""

from miram.benchmark.step_cost import LossOfBatch, StepCost, step_cost, training_step_cost

__all__ = ["LossOfBatch", "StepCost", "step_cost", "training_step_cost"]
