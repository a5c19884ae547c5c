"""Writing the classifier of the best epoch, and stopping a run that no longer improves."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from miram.engines.distributed import is_main_process
from miram.errors import InputError
from miram.weights.classifier import save_classifier

logger = logging.getLogger(__name__)


class BestModelHandler:
    """
    After each validation whose key metric is the best so far, write the network as `model.pt`.

    Add this handler to the run's checkpoint, so that a resumed run knows its best epoch.

    Args:
        path: the file.
        content: called when the file is written, returns its content; "provenance" gets the epoch and its metrics.
        evaluator: the validation evaluator.
        key_metric: name of one of its metrics; higher is better.
        patience: training stops after this many validations in a row without an improvement; None never stops.

    Raises:
        InputError: if the patience is not positive.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        content: Callable[[], dict[str, Any]],
        evaluator: Engine,
        key_metric: str = "val_auc",
        patience: int | None = None,
    ) -> None:
        if patience is not None and patience < 1:
            raise InputError(f"early_stopping_patience must be at least 1, or null for never, got {patience}")
        self.path = Path(path)
        self.content = content
        self.evaluator = evaluator
        self.key_metric = key_metric
        self.patience = patience
        self.best = -math.inf
        self.best_epoch = 0
        self.waited = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its checkpoint handler."""
        engine.add_event_handler(Events.STARTED, self.stop_if_done)
        self.evaluator.add_event_handler(Events.COMPLETED, self.judge, engine)
        engine.add_event_handler(Events.COMPLETED, self.conclude)

    def judge(self, evaluator: Engine, trainer: Engine) -> None:
        """Write the network if it is the best so far; stop if the patience is used up."""
        value = evaluator.state.metrics[self.key_metric]
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
            logger.info("stopping: %s did not exceed %.4f in %d validations", self.key_metric, self.best, self.waited)
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
                "number; set val_interval to max_epochs or less, and see that validation holds both classes"
            )
        logger.info("%s: epoch %d, %s %.4f", self.path.name, self.best_epoch, self.key_metric, self.best)

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]

    def _write(self, evaluator: Engine) -> None:
        content = self.content()
        metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
        content["provenance"] = {**content["provenance"], "epoch": self.best_epoch, "validation": metrics}
        save_classifier(self.path, content)
