"""The checkpoint from before a schedule's annealing, from which a longer run goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miram.errors import InputError
from miram.handlers.checkpoint_files import write_checkpoint
from miram.weights.backbone import load_weights_file

logger = logging.getLogger(__name__)


class AnnealingBranch:
    """
    Keep the checkpoint of the epoch before annealing, and find out whether a run goes on from it.

    Annealed weights have settled; a run that is made longer branches off before the annealing, as if there had been
    none (:class:`miram.optimizers.InfiniteRate`).

    Args:
        path: of the run's checkpoint; the kept one is `before_annealing.pt` beside it.
        epoch: the last epoch before the annealing; None keeps nothing.
    """

    def __init__(self, path: Path, epoch: int | None) -> None:
        self.path = path.with_name("before_annealing.pt")
        self.epoch = epoch

    def keep(self, content: Mapping[str, Any]) -> None:
        """Write a checkpoint's content, if it is that of the epoch."""
        at_its_end = content["iteration"] == content["epoch"] * content["epoch_length"]
        if content["epoch"] == self.epoch and at_its_end:
            write_checkpoint(self.path, content, "drop")

    def choose(self, path: Path, content: dict[str, Any]) -> dict[str, Any]:
        """
        The content from which a run goes on: the kept one, if the other is annealed and this run's annealing is later.

        Args:
            path: of the run's checkpoint, for messages.
            content: of that checkpoint.

        Raises:
            InputError: if the kept one is needed and missing or damaged.
        """
        start = content.get("annealing_start")
        if start is None or self.epoch is None or self.epoch <= start:
            return content
        if content["iteration"] <= start * content["epoch_length"]:
            return content
        if not self.path.is_file():
            raise InputError(
                f"{path} is annealed, and there is no {self.path} from which a longer run could go on: keep "
                f"max_epochs as it was, or start another run from these weights with --init {path}"
            )
        kept = load_weights_file(self.path)
        logger.warning(
            "%s is annealed and this run is longer: going on from %s, after epoch %d. The annealed files, backbone.pt "
            "too, will be replaced",
            path,
            self.path,
            kept.get("epoch"),
        )
        return kept
