"""A few minutes of `configs/pretrain.yaml` on a prepared folder, with its curve."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
from ignite.engine import Events
from ignite.handlers import TimeLimit
from monai.bundle import ConfigWorkflow

from studies.gpu_check.settings import CheckSettings, Record, data_of

CONFIG = Path(__file__).parents[3] / "configs/pretrain.yaml"
# without those that need TensorBoard or draw in every epoch
HANDLERS = ["checkpoint", "finite_loss", "schedule_steps", "validation", "history", "save_backbone", "summary"]
RESERVE = 5  # seconds for the last step and the files


def check_pretraining(settings: CheckSettings, record: Record, seconds: float) -> None:
    """Train until all epochs are done or the time is nearly over, and record ten points of `history.csv`."""
    end = time.monotonic() + seconds
    output = settings.output_dir / "pretraining"
    workflow = ConfigWorkflow(
        str(CONFIG),
        logging_file=False,
        workflow_type="train",
        dataset_dir=str(data_of(settings)),
        output_dir=str(output),
        device=str(settings.device),
        resume=False,
        handlers=[f"@{name}" for name in HANDLERS],
        **{"validate#handlers": [], **settings.sizes.overrides},
    )
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    limit = TimeLimit(max(round(end - time.monotonic() - RESERVE), 1))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, limit)
    workflow.run()
    workflow.finalize()
    _record_curve(pd.read_csv(output / "history.csv"), record)


def _record_curve(table: pd.DataFrame, record: Record) -> None:
    """Ten points of the curve; validation losses are of the last validation before each."""
    rows = table.ffill().to_dict("records")
    for number in sorted({round((len(rows) - 1) * tenth / 9) for tenth in range(10)}):
        row = {str(name): value for name, value in rows[number].items()}
        record({name: row[name] for name in row if "loss" in name or name in ("epoch", "images_per_second")})
