"""Training and validation steps for MONAI's Ignite-based trainers and evaluators."""

from miram.engines.classification import ClassificationStep, PrepareClassificationBatch, classification_metrics
from miram.engines.devices import best_device, best_precision, is_cuda, start_run
from miram.engines.distributed import data_parallel, global_batch_size, start_distributed, stop_distributed
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
    "global_batch_size",
    "is_cuda",
    "start_distributed",
    "start_run",
    "stop_distributed",
    "validation_metrics",
]
