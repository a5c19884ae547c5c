"""Training and validation steps for MONAI's Ignite-based trainers and evaluators."""

from miram.engines.distributed import start_distributed
from miram.engines.pretraining import PreparePretrainingBatch, baseline_losses, validation_metrics
from miram.engines.steps import TrainingStep, ValidationStep

__all__ = [
    "PreparePretrainingBatch",
    "TrainingStep",
    "ValidationStep",
    "baseline_losses",
    "start_distributed",
    "validation_metrics",
]
