"""A loss or gradient that is not finite: the run stops or skips that step, and names the images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from miram.engines.distributed import gather_objects, world_size
from miram.errors import InputError

logger = logging.getLogger(__name__)

Policy = Literal["stop", "skip"]


@dataclass(eq=False)
class FiniteLossHandler:
    """
    Report steps that :class:`miram.engines.TrainingStep` skipped because their loss or gradient was not finite.

    Steps are checked together every few iterations, since each check waits for the device. The weights are never those
    of a bad step. The number of skipped steps is the trainer's metric "skipped_steps", a column of the history.

    Raises:
        InputError: for another policy; and while training, if a step was bad and the policy is to stop.
    """

    items: Sequence[Mapping[str, Any]]  # of the training set, in its order; each has its file's name under "image"
    # "stop" ends the run at the next check; "skip" warns and continues, unless no step of an epoch was good
    policy: Policy = "stop"
    interval: int = 20  # iterations between two checks; the last iteration of an epoch is always checked

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(f"non_finite must be one of {', '.join(get_args(Policy))}, got {self.policy!r}")
        self.batches: list[tuple[int, torch.Tensor, torch.Tensor | None, Sequence[int]]] = []
        self.steps = 0
        self.skipped = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the handlers that validate or write."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.remember)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.conclude)

    def remember(self, engine: Engine) -> None:
        """Remember a batch's loss on its device, and check all remembered ones when it is time."""
        state: Any = engine.state
        self.batches.append((state.iteration, state.output[0]["loss"], state.skipped, state.batch["index"]))
        if state.iteration % self.interval == 0 or state.iteration % state.epoch_length == 0:
            self.check()

    def check(self) -> None:
        """
        Check the remembered steps; all processes call it together.

        Raises:
            InputError: naming the first batch whose loss or gradient is not finite, if the policy is to stop.
        """
        ends = [n for n, (_, _, flag, _) in enumerate(self.batches, start=1) if flag is not None]
        if not ends:
            return
        faults = torch.stack([flag for _, _, flag, _ in self.batches if flag is not None])
        if world_size() > 1:
            dist.all_reduce(faults, dist.ReduceOp.MAX)
        count = int(faults.sum())
        self.steps += len(ends)
        self.skipped += count
        if count:
            message = self._describe(count)
            if self.policy == "stop":
                raise InputError(message)
            logger.warning(message)  # appears once: only the first process logs
        self.batches = self.batches[ends[-1] :]  # keep batches whose step is still to come

    def conclude(self, engine: Engine) -> None:
        """
        Set the metric at the end of the epoch.

        Raises:
            InputError: if no step of the epoch was good.
        """
        if self.skipped == self.steps:
            raise InputError(
                f"no step of epoch {engine.state.epoch} had a finite loss and gradient: lower base_learning_rate, set "
                "clip_grad_norm, or use precision bfloat16 or float32"
            )
        engine.state.metrics["skipped_steps"] = self.skipped
        self.steps = self.skipped = 0

    def state_dict(self) -> dict[str, int]:
        """The state for the checkpoint: the counts of the epoch so far. Raises as :meth:`check` does."""
        self.check()
        return {"steps": self.steps, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Load the state of a checkpoint."""
        self.steps, self.skipped = state["steps"], state["skipped"]

    def _describe(self, count: int) -> str:
        """What happened, to which images, and what may help; the same in all processes."""
        found = gather_objects(self._own_fault())
        losses = [what for what, is_loss in found if is_loss]
        # gradients are shared: without a bad loss, no process knows where a bad gradient came from
        what = losses[0] if losses else "; ".join(dict.fromkeys(what for what, _ in found))
        return (
            f"{count} step(s) were skipped: the training {what}. The weights are those of the steps before. If the "
            "images are good, lower base_learning_rate, set clip_grad_norm, or use precision bfloat16 or float32. "
            + ("Training continues (non_finite: skip)" if self.policy == "skip" else "non_finite: skip would continue")
        )

    def _own_fault(self) -> tuple[str, bool]:
        """A description of the first bad step of this process, and whether its own loss is the cause."""
        for iteration, loss, _, indices in self.batches:
            if not torch.isfinite(loss):
                return f"loss of iteration {iteration} is {loss.item()}. {self._images(indices)}", True
        group: list[int] = []
        for iteration, _, flag, indices in self.batches:
            group += [int(index) for index in indices]
            if flag:
                return (
                    f"gradient of iteration {iteration} is not finite, with finite losses. {self._images(group)}",
                    False,
                )
            if flag is not None:
                group = []
        return "gradient of another process is not finite", False

    def _images(self, indices: Iterable[int]) -> str:
        return f"Check the batch's images: {', '.join(self.items[int(index)]['image'] for index in indices)}"
