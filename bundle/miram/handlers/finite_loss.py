"""A loss that is no number ends a run, and names the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from miram.errors import InputError


class FiniteLossHandler:
    """
    Stop at a loss that is not finite, before anything of its epoch is written, and name the batch's items.

    Losses are looked at together every few iterations, since each look waits for the device.

    Args:
        name_of: gives an item's name by its index in the training set.
        interval: iterations between two looks; the last iteration of an epoch is always one.

    Raises:
        InputError: (while training) if a loss is not finite.
    """

    def __init__(self, name_of: Callable[[int], str], interval: int = 20) -> None:
        self.name_of = name_of
        self.interval = interval
        self.batches: list[tuple[int, torch.Tensor, Sequence[int]]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the handlers that validate or write."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.remember)

    def forget(self, engine: Engine) -> None:
        """Forget the last epoch's batches."""
        self.batches = []

    def remember(self, engine: Engine) -> None:
        """Remember a batch's loss on its device, and look at all remembered ones when it is time."""
        state: Any = engine.state
        self.batches.append((state.iteration, state.output[0]["loss"], state.batch["index"]))
        if state.iteration % self.interval == 0 or state.iteration % state.epoch_length == 0:
            self.check()

    def check(self) -> None:
        """
        Look at the remembered losses.

        Raises:
            InputError: naming the first batch whose loss is not finite.
        """
        finite = torch.isfinite(torch.stack([loss for _, loss, _ in self.batches])).tolist()
        bad = [batch for batch, good in zip(self.batches, finite, strict=True) if not good]
        self.batches = []
        if bad:
            iteration, loss, indices = bad[0]
            names = ", ".join(self.name_of(int(index)) for index in indices)
            raise InputError(
                f"the training loss of iteration {iteration} is {loss.item()}; the last checkpoint and model.pt are "
                f"kept. Look at the batch's images: {names}. If they are good, lower base_learning_rate, set "
                "clip_grad_norm, or use precision bfloat16 or float32"
            )
