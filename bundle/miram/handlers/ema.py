"""A moving average of the weights, which is validated and kept instead of the latest weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from miram.engines.sharding import load_whole_state
from miram.engines.steps import TrainingStep
from miram.errors import InputError


class ExponentialMovingAverage:
    """
    Average the weights after each optimizer step: new average = decay x average + (1 - decay) x weights (Polyak and
    Juditsky 1992, as in DeiT, arXiv 2012.12877), with Ignite's `EMAHandler`. The average starts at the initial weights.

    Args:
        network: the network that is trained, without wrappers, on its device.
        decay: 0.999 averages about the last 1,000 optimizer steps; None does not average, and :attr:`network` is the
            given one.
        step: knows in which iterations the optimizer steps.

    Raises:
        InputError: if the decay is not in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float | None, step: TrainingStep) -> None:
        if decay is not None and not 0 < decay < 1:
            raise InputError(f"ema_decay must be above 0 and below 1, or null for no average, got {decay}")
        self.source = network
        self.step = step
        self.average = None if decay is None else EMAHandler(network, 1 - decay, handle_buffers="update")

    @property
    def network(self) -> nn.Module:
        """The network to validate and to keep."""
        return self.source if self.average is None else self.average.ema_model

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.average is not None:
            stepped = Events.ITERATION_COMPLETED(event_filter=self._stepped)
            self.average.attach(engine, warn_if_exists=False, event=stepped)

    def _stepped(self, engine: Engine, iteration: int) -> bool:
        assert engine.state.epoch_length is not None  # a trainer that runs has one
        return self.step.ends_group(engine.state.iteration, engine.state.epoch_length)

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint; empty without averaging."""
        return {} if self.average is None else self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Load the state of a checkpoint; if it is empty, the average starts at the current weights.

        Raises:
            RuntimeError: if the state is of another network.
        """
        if self.average is not None:
            load_whole_state(self.network, state or self.source.state_dict())
