"""Ignite event handlers: checkpoints, history, pictures and the output files of a run."""

from miram.engines.sharding import ShardingHandler
from miram.handlers.checkpoint import CheckpointHandler
from miram.handlers.draw_reconstructions import ReconstructionHandler
from miram.handlers.ema import ExponentialMovingAverage
from miram.handlers.finite_loss import FiniteLossHandler
from miram.handlers.group import HandlerGroup
from miram.handlers.history import HistoryHandler
from miram.handlers.representation import NeighborProbe, RepresentationMonitor
from miram.handlers.save_weights import BackboneHandler, BestModelHandler
from miram.handlers.summary import ProgressHandler, SummaryHandler

__all__ = [
    "BackboneHandler",
    "BestModelHandler",
    "CheckpointHandler",
    "ExponentialMovingAverage",
    "FiniteLossHandler",
    "HandlerGroup",
    "HistoryHandler",
    "NeighborProbe",
    "ProgressHandler",
    "ReconstructionHandler",
    "RepresentationMonitor",
    "ShardingHandler",
    "SummaryHandler",
]
