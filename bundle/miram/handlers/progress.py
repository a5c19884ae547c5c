"""A progress bar for people who wait."""

from __future__ import annotations

from ignite.engine import Engine
from ignite.handlers import ProgressBar

from miram.engines.distributed import is_main_process


class ProgressHandler:
    """
    Ignite's progress bar over the iterations of each epoch: on rank 0, and only where somebody watches a terminal.

    Args:
        description: the word before the bar.
    """

    def __init__(self, description: str = "epoch") -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or evaluator."""
        if is_main_process():
            template = "{desc} {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            # disable=None is tqdm's own test for a terminal: a log file gets a line an epoch, and no bars
            ProgressBar(desc=self.description, bar_format=template, mininterval=1, disable=None).attach(engine)
