"""Everything that a run resumes from, in one file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from miram.engines.distributed import is_main_process
from miram.errors import InputError
from miram.files import atomic_write
from miram.networks.backbone import load_weights_file

logger = logging.getLogger(__name__)


class CheckpointHandler:
    """
    Save a run every few epochs, and continue it from there.

    The order of samples, their augmentation and their masks follow from the seed and the epoch; so beside the weights a
    checkpoint holds the optimizer, the loss scaler, the epoch, the place in the learning-rate schedule, and torch's
    generators, which stochastic depth draws from. The schedule itself is the config's, so that a run can be made
    longer.

    Args:
        path: the checkpoint file.
        network: the network without wrappers, so that a checkpoint loads with any number of processes.
        optimizer: its optimizer.
        scheduler: its learning-rate schedule.
        scaler: the loss scaler of float16.
        resume: continue from `path` if it is there; otherwise start afresh, and say so.
        interval: epochs between two checkpoints; the last epoch is always saved.
        more: further parts of the run by name, each with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        scaler: torch.amp.GradScaler,
        resume: bool = True,
        interval: int = 1,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.to_save: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "scaler": scaler,
            **(more or {}),
        }
        self.scheduler = scheduler
        self.resume = resume
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before the handlers that read its epoch."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.STARTED, self._attach_save)

    def _attach_save(self, engine: Engine) -> None:
        """Come last at the end of an epoch: what a checkpoint says is done, validation and history too, is done."""
        if not engine.has_event_handler(self.save, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: SupervisedTrainer) -> None:
        """Write the checkpoint, if this epoch is one to be saved."""
        state = engine.state
        if not is_main_process() or (state.epoch % self.interval and state.epoch != state.max_epochs):
            return
        content = {name: part.state_dict() for name, part in self.to_save.items()}
        content |= {"epoch": state.epoch, "iteration": state.iteration, "generators": _generator_states()}
        content["scheduler_step"] = self.scheduler.last_epoch
        content["best_metric"], content["best_metric_epoch"] = state.best_metric, state.best_metric_epoch
        with atomic_write(self.path) as temporary:
            torch.save(content, temporary)

    def load(self, engine: SupervisedTrainer) -> None:
        """
        Continue from the checkpoint.

        Raises:
            InputError: if the checkpoint is damaged or of another network.
        """
        if not self.path.exists():
            logger.info("starting at epoch 1: no checkpoint at %s", self.path)
            return
        if not self.resume:
            logger.info("resume is False: starting afresh at epoch 1; %s will be replaced", self.path)
            return
        content = load_weights_file(self.path)
        missing = {*self.to_save, "epoch", "iteration", "scheduler_step", "generators"} - content.keys()
        if missing:
            raise InputError(f"{self.path} is no checkpoint of a run: it lacks {sorted(missing)}")
        check_same_network(self.path, self.to_save["network"], content["network"])
        for name, part in self.to_save.items():
            part.load_state_dict(content[name])
        self.scheduler.last_epoch = content["scheduler_step"]
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        engine.state.best_metric, engine.state.best_metric_epoch = content["best_metric"], content["best_metric_epoch"]
        _restore_generators(content["generators"])
        logger.info("resumed from %s after epoch %d of %d", self.path, content["epoch"], engine.state.max_epochs)


def check_same_network(path: Path, network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """
    Check that a checkpoint's weights are of the network's shape.

    Raises:
        InputError: naming some of the keys that differ.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    saved = {name: tuple(value.shape) for name, value in state.items()}
    different = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
    if different:
        shown = ", ".join(f"{name} ({saved.get(name)} saved, {own.get(name)} here)" for name in different[:3])
        raise InputError(
            f"{path} is of another architecture: {len(different)} of {len(own)} parameters differ, such as {shown}. "
            "Use the config it was made with, another output_dir, or --resume False to replace it."
        )


def _generator_states() -> dict[str, Any]:
    """The states of torch's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_generators(states: dict[str, Any]) -> None:
    """Restore torch's generators; those of GPUs only if there are as many as before."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
