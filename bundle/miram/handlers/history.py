"""One row per epoch: in a table, in a plot, and in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch.optim import Optimizer

from miram.engines.distributed import is_main_process, sum_over_processes
from miram.errors import InputError
from miram.files import write_table
from miram.visualize.figures import Painter
from miram.visualize.loss_curves import plot_history

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class HistoryHandler:
    """
    Write `history.csv` after each epoch, and draw `loss.png` after validations and the last epoch, while training goes
    on. A resumed run continues with the rows up to its epoch, and with the sums of the current epoch, so add this
    handler to the checkpoint.

    Training losses are means over the iterations where they are finite. Metrics that the trainer has at the end of an
    epoch are columns too, empty in epochs without them.
    """

    output_dir: Path  # the folder of the run
    optimizer: Optimizer  # its learning rate is recorded
    # its metrics are the validation columns; they are empty in epochs without validation
    evaluator: Engine | None = None
    images_per_iteration: int = 1  # images of all processes in an iteration, for the throughput
    # called once at the start; returns columns that do not change, such as the baselines' losses
    constants: Callable[[], dict[str, float]] | None = None

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.constant_columns: dict[str, float] = {}
        self.rows: list[dict[Any, Any]] = []
        self.names: list[str] = []
        self.sums: torch.Tensor | None = None
        self.started = time.perf_counter()
        self.seconds = 0.0
        self.validated_epoch = 0
        self.painter = Painter()

    @property
    def path(self) -> Path:
        """The table."""
        return self.output_dir / "history.csv"

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the checkpoint and validation handlers and those that set metrics."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish_epoch)
        engine.add_event_handler(Events.COMPLETED, self.painter.finish)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self.note_validation, engine)

    def start(self, engine: Engine) -> None:
        """Keep the rows of the epochs that the checkpoint holds, and compute the constant columns."""
        self.rows = []
        if engine.state.epoch > 0 and self.path.exists():
            self.rows = self._read_rows(engine.state.epoch)
        if self.constants is not None:
            self.constant_columns = self.constants()
            for name, value in self.constant_columns.items():
                logger.info("%s = %.4f", name, value)
        self.start_clock(engine)

    def _read_rows(self, epochs: int) -> list[dict[Any, Any]]:
        """The rows of a run's first epochs; an InputError if the table is damaged."""
        try:
            table = pd.read_csv(self.path)
            return table[table["epoch"] <= epochs].to_dict("records")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path} cannot be read ({type(error).__name__}); delete it to continue without the earlier rows"
            ) from error

    def start_clock(self, engine: Engine) -> None:
        """Start timing the rest of the epoch."""
        self.started = time.perf_counter()

    def add(self, engine: SupervisedTrainer) -> None:
        """Add an iteration's losses, without waiting for the device."""
        losses = engine.state.output[0]
        values = torch.stack(list(losses.values()))
        finite = torch.isfinite(values)
        new = torch.stack([torch.where(finite, values, 0), finite.to(values)])  # sums and counts, (2, losses)
        self.names, self.sums = list(losses), new if self.sums is None else self.sums + new

    def note_validation(self, evaluator: Engine, trainer: Engine) -> None:
        """Remember the epoch of the evaluator's metrics."""
        self.validated_epoch = trainer.state.epoch

    def finish_epoch(self, engine: SupervisedTrainer) -> None:
        """Write the row of the epoch."""
        row = self._row(engine)
        self.sums, self.seconds = None, 0.0
        self.rows.append(row)
        if is_main_process():
            table = _in_order(pd.DataFrame(self.rows))
            write_table(self.path, table)
            if engine.state.epoch in (self.validated_epoch, engine.state.max_epochs):
                self.painter.draw(plot_history, table, self.output_dir / "loss.png")
            logger.info(describe_row(row, engine.state.max_epochs))

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint: names, sums and counts (2, losses), and seconds of the epoch so far."""
        if self.sums is None:
            return {"names": [], "sums": None, "seconds": 0.0}
        return {"names": self.names, "sums": self.sums.cpu().clone(), "seconds": self._seconds()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        device = self.optimizer.param_groups[0]["params"][0].device
        self.names, self.seconds = state["names"], state["seconds"]
        self.sums = None if state["sums"] is None else state["sums"].to(device)

    def _seconds(self) -> float:
        """The seconds of the epoch so far, including those before an interruption."""
        return self.seconds + time.perf_counter() - self.started

    def _row(self, engine: SupervisedTrainer) -> dict[str, Any]:
        """The columns of the epoch."""
        row: dict[str, Any] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        assert self.sums is not None  # an epoch has iterations
        sums = sum_over_processes(self.sums)  # the first process may still be busy with its part of the epoch's end
        means = (sums[0] / sums[1]).tolist()
        row |= {f"train_{name}": mean for name, mean in zip(self.names, means, strict=True)}
        seconds = self._seconds()
        if self.evaluator is not None:
            fresh = self.validated_epoch == engine.state.epoch
            row |= {name: value if fresh else None for name, value in self.evaluator.state.metrics.items()}
        row |= engine.state.metrics
        row |= self.constant_columns
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row["seconds"] = round(seconds, 3)
        row["images_per_second"] = round(engine.state.epoch_length * self.images_per_iteration / seconds, 1)
        return row


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The same column order in every run: position, training losses, validation, baselines, monitors, the rest."""
    ranks = ["epoch", "iteration", "train_", "val_loss", "val_", "rank", "knn_"]
    rank: dict[Any, int] = {
        name: next((i for i, prefix in enumerate(ranks) if str(name).startswith(prefix)), 9) for name in table.columns
    }
    return table[sorted(table.columns, key=lambda name: rank[name])]


def describe_row(row: dict[str, Any], max_epochs: int) -> str:
    """One line about an epoch, for the log."""
    shown = [name for name in row if "loss" in name or name in ("val_auc", "val_ap", "val_froc", "rank", "knn_auc")]
    figures = [f"{name} {row[name]:.4f}" for name in shown if row[name] is not None]
    return (
        f"epoch {row['epoch']}/{max_epochs}: {', '.join(figures)}; learning rate {row['learning_rate']:.2e}; "
        f"{row['images_per_second']:.0f} images/s, {row['seconds']:.1f} s"
    )
