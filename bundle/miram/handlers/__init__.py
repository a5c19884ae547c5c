"""Ignite event handlers: what a run resumes from, records, draws and leaves behind."""

from typing import Any

from miram.handlers.checkpoint import CheckpointHandler
from miram.handlers.draw_reconstructions import ReconstructionHandler
from miram.handlers.ema import ExponentialMovingAverage
from miram.handlers.finite_loss import FiniteLossHandler
from miram.handlers.history import HistoryHandler
from miram.handlers.progress import ProgressHandler
from miram.handlers.representation import NeighborProbe, RepresentationMonitor
from miram.handlers.save_backbone import BackboneHandler
from miram.handlers.save_best_model import BestModelHandler
from miram.handlers.sharding import ShardingHandler
from miram.handlers.summary import SummaryHandler


def use(handler: Any) -> Any:
    """
    Put a handler that has an id of its own into a list of handlers.

    MONAI's check of a workflow's properties reads the `_target_` of each entry of `train#handlers`, so that an entry
    cannot be a plain reference (`'@history'`).

    Args:
        handler: the handler that the id refers to.
    """
    return handler


__all__ = [
    "BackboneHandler",
    "BestModelHandler",
    "CheckpointHandler",
    "ExponentialMovingAverage",
    "FiniteLossHandler",
    "HistoryHandler",
    "NeighborProbe",
    "ProgressHandler",
    "ReconstructionHandler",
    "RepresentationMonitor",
    "ShardingHandler",
    "SummaryHandler",
    "use",
]
