"""Training and validation steps for MONAI's Ignite-based trainers and evaluators."""

from miram.engines.classification import ClassificationStep, PrepareClassificationBatch, classification_metrics
from miram.engines.devices import best_device, best_precision, end_run, is_cuda, start_run
from miram.engines.distributed import data_parallel, global_batch_size, start_distributed
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
    "best_device",
    "best_precision",
    "classification_metrics",
    "data_parallel",
    "end_run",
    "global_batch_size",
    "is_cuda",
    "start_distributed",
    "start_run",
    "validation_metrics",
]
