"""A moving average of the weights, which is validated and kept instead of the last ones."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from miram.errors import InputError


class _Average(AveragedModel):
    """Torch's average, which takes its count to the GPU in each iteration and so waits for it; this one does not."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Average in the weights and buffers of now; the first time, and whole numbers always, they are copied."""
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        first = not int(self.n_averaged)  # on the CPU
        copied = [pair for pair in pairs if first or not pair[0].is_floating_point()]
        for own, new in copied:
            own.copy_(new)
        if not first:
            averaged = [pair for pair in pairs if pair[0].is_floating_point()]
            self._average([own for own, _ in averaged], [new for _, new in averaged], self.n_averaged)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]


class ExponentialMovingAverage:
    """
    Average the weights after each iteration: new average = decay x average + (1 - decay) x weights (Polyak and Juditsky
    1992, as in DeiT, arXiv 2012.12877).

    Args:
        network: the network that is trained, without wrappers, on its device.
        decay: 0.999 averages about the last 1,000 iterations; None does not average, and :attr:`network` is the given
            one.

    Raises:
        InputError: if the decay is not in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise InputError(f"ema_decay must be above 0 and below 1, or null for no average, got {decay}")
        self.source = network
        self.averaged: AveragedModel | None = None
        if decay is not None:
            self.averaged = _Average(network, decay)

    @property
    def network(self) -> nn.Module:
        """The network to validate and to keep."""
        return self.source if self.averaged is None else self.averaged.module

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.averaged is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self, engine: Engine) -> None:
        """Average in the weights of now."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint; empty without averaging."""
        return {} if self.averaged is None else self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Continue with the state of a checkpoint; without one, the average starts at the present weights.

        Raises:
            RuntimeError: if the state is of another network.
        """
        if self.averaged is None:
            return
        if state:
            self.averaged.load_state_dict(state)
        else:
            self.averaged.module.load_state_dict(self.source.state_dict())
