"""What a user sees of a run: its settings, its progress, and its output files."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch import nn

from miram.engines.distributed import is_main_process

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SummaryHandler:
    """Log the facts of a run before its first step, and its outputs after the last."""

    network: nn.Module  # its trained and frozen parameters are counted
    facts: Mapping[str, Any]  # name and value, logged in this order
    output_dir: Path  # the folder whose files are listed at the end

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.started = time.perf_counter()

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, as the last handler."""
        engine.add_event_handler(Events.STARTED, self.log_start)
        engine.add_event_handler(Events.COMPLETED, self.log_end)

    def log_start(self, engine: Engine) -> None:
        """Log parameters and facts."""
        self.started = time.perf_counter()
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.network.parameters() if not p.requires_grad)
        logger.info("parameters: %.2f M trained, %.2f M fixed", trained / 1e6, frozen / 1e6)
        logger.info("%d epochs of %d iterations", engine.state.max_epochs, engine.state.epoch_length)
        for name, value in self.facts.items():
            logger.info("%s: %s", name, f"{value:.4g}" if isinstance(value, float) else value)

    def log_end(self, engine: Engine) -> None:
        """Log the time and the files."""
        if not is_main_process():
            return
        logger.info(
            "finished epoch %d in %.0f s; outputs in %s:",
            engine.state.epoch,
            time.perf_counter() - self.started,
            self.output_dir,
        )
        for path in sorted(self.output_dir.iterdir()):
            if path.is_file() and not path.name.startswith((".", "events.")):
                logger.info("  %-28s %9.1f KiB", path.name, path.stat().st_size / 1024)


@dataclass(eq=False)
class ProgressHandler:
    """Ignite's progress bar over the iterations of each epoch: on rank 0, and only in a terminal."""

    description: str = "epoch"  # the word before the bar

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        if is_main_process():
            template = "{desc} {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            # disable=None is tqdm's own test for a terminal: a log file gets one line per epoch and no bars
            ProgressBar(desc=self.description, bar_format=template, mininterval=1, disable=None).attach(engine)
