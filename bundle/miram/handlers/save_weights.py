"""Weights written during a run: the encoder for other projects, and the classifier of the best epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from miram.engines.distributed import is_main_process
from miram.engines.sharding import whole_state
from miram.errors import InputError
from miram.metrics.classification import better_sign
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, save_weights_file

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class BestModelHandler:
    """
    After each validation whose key metric is the best so far, write the network as `model.pt`.

    Add this handler to the run's checkpoint, so that a resumed run knows its best epoch.

    Raises:
        InputError: if the patience is not positive.
    """

    path: Path
    # called when the file is written, returns its content; "provenance" gets the epoch and its metrics
    content: Callable[[], dict[str, Any]]
    evaluator: Engine  # the validation evaluator
    key_metric: str = "val_auc"  # name of one of its metrics; see :func:`miram.metrics.classification.better_sign`
    # training stops after this many validations in a row without an improvement; None never stops
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise InputError(f"early_stopping_patience must be at least 1, or null for never, got {self.patience}")
        self.path = Path(self.path)
        self.sign = better_sign(self.key_metric)
        self.best = -math.inf  # of sign x metric
        self.best_epoch = 0
        self.waited = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its checkpoint handler."""
        engine.add_event_handler(Events.STARTED, self.stop_if_done)
        self.evaluator.add_event_handler(Events.COMPLETED, self.judge, engine)
        engine.add_event_handler(Events.COMPLETED, self.conclude)

    def judge(self, evaluator: Engine, trainer: Engine) -> None:
        """Write the network if it is the best so far; stop if the patience is used up."""
        value = self.sign * evaluator.state.metrics[self.key_metric]
        if value > self.best:
            self.best, self.best_epoch, self.waited = float(value), trainer.state.epoch, 0
            if is_main_process():
                self._write(evaluator)
        else:
            self.waited += 1
        self.stop_if_done(trainer)

    def stop_if_done(self, trainer: Engine) -> None:
        """End training if the patience is used up, also in a run that is resumed after that."""
        if self.patience is not None and self.waited >= self.patience and not trainer.should_terminate:
            best = self.sign * self.best
            logger.info("stopping: %s did not improve on %.4f in %d validations", self.key_metric, best, self.waited)
            trainer.terminate()

    def conclude(self, trainer: Engine) -> None:
        """
        Log which epoch was kept.

        Raises:
            InputError: if none was, because no epoch was validated or the key metric never was a number.
        """
        if not self.best_epoch:
            raise InputError(
                f"no {self.path.name} was written: in {trainer.state.epoch} epochs {self.key_metric} was never a "
                "number; set val_interval to max_epochs or less, and see that the validation data allow it"
            )
        best = self.sign * self.best
        logger.info("%s: epoch %d, %s %.4f", self.path.name, self.best_epoch, self.key_metric, best)

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "key_metric": self.key_metric,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint, unless the best epoch was chosen by another metric."""
        if state.get("key_metric") != self.key_metric:
            logger.warning("the best epoch is now chosen by %s, and only among those from here on", self.key_metric)
            return
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]

    def _write(self, evaluator: Engine) -> None:
        content = self.content()
        metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
        content["provenance"] = {**content["provenance"], "epoch": self.best_epoch, "validation": metrics}
        save_weights_file(self.path, content)


@dataclass(eq=False)
class BackboneHandler:
    """Write the encoder as `backbone.pt` every few epochs and at the end."""

    path: Path
    encoder: ViTEncoder  # the encoder that is trained
    preprocessing: Mapping[str, Any]  # how pixels became the encoder's input
    provenance: Mapping[str, Any]  # where the weights come from; the epoch is added
    interval: int = 1  # epochs between two writes

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the checkpoint handler."""
        engine.add_event_handler(Events.STARTED, self.remember_start)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        engine.add_event_handler(Events.COMPLETED, self.save_at_the_end)

    def remember_start(self, engine: Engine) -> None:
        """Remember the epoch at which this start of the run begins."""
        self.begun_at = engine.state.epoch

    def save_at_the_end(self, engine: Engine) -> None:
        """Write the backbone, unless the run was already finished: the file records which run made it."""
        if engine.state.epoch != self.begun_at or not self.path.is_file():
            self.save(engine)

    def save(self, engine: Engine) -> None:
        """Write the backbone."""
        state = whole_state(self.encoder)  # all processes together
        if is_main_process():
            facts = {**self.provenance, "epoch": engine.state.epoch}
            save_weights_file(self.path, backbone_from_encoder(self.encoder, self.preprocessing, facts, state))
