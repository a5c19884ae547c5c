"""What a sharded network needs between two epochs."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn

from miram.engines.sharding import gather_weights, release_weights


class ShardingHandler:
    """
    Let each process hold all weights from the end of an epoch to the start of the next.

    In between, processes run the network on their own: shares of the validation images differ in number, and one
    process alone draws pictures. A network that is not sharded (:func:`miram.engines.sharding.shard`) is left as it is.

    Args:
        network: the network that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before what runs the network at an epoch's end."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: release_weights(self.network))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: gather_weights(self.network))
