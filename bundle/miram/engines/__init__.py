"""Training and validation steps for MONAI's Ignite-based trainers and evaluators."""

from miram.engines.classification import ClassificationStep, PrepareClassificationBatch, classification_metrics
from miram.engines.distributed import start_distributed, stop_distributed
from miram.engines.pretraining import PreparePretrainingBatch, PrepareTwoViews, baseline_losses, validation_metrics
from miram.engines.steps import TrainingStep, ValidationStep

__all__ = [
    "ClassificationStep",
    "PrepareClassificationBatch",
    "PreparePretrainingBatch",
    "PrepareTwoViews",
    "TrainingStep",
    "ValidationStep",
    "baseline_losses",
    "classification_metrics",
    "start_distributed",
    "stop_distributed",
    "validation_metrics",
]
