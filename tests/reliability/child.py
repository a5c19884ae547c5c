"""
What a process that is killed runs: a workflow, which notes in shared memory what it is doing.

`multiprocessing` runs this file by `runpy`, with FILES, OVERRIDES, LOG and PHASE (a shared integer) as globals.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from miram.handlers import checkpoint
from miram.handlers.checkpoint_files import Replaced

PHASES = ("starting", "training", "validating", "concluding", "writing a checkpoint")


def main(files: list[str], overrides: dict[str, Any], log: str, phase: Any) -> None:
    """Run to the end."""

    def note(name: str) -> None:
        phase.value = PHASES.index(name)

    def write(path: Path, content: Mapping[str, Any], replaced: Replaced = "keep") -> None:
        before, phase.value = phase.value, PHASES.index("writing a checkpoint")
        write_checkpoint(path, content, replaced)
        phase.value = before

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as in a run from the command line
    logging.basicConfig(filename=log, level=logging.INFO, format="%(message)s", force=True)
    write_checkpoint, checkpoint.write_checkpoint = checkpoint.write_checkpoint, write
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="train", **overrides)
    workflow.initialize()
    trainer, evaluator = (
        workflow.parser.get_parsed_content(f"{name}") for name in ("train#trainer", "validate#evaluator")
    )
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: note("training"))
    evaluator.add_event_handler(Events.STARTED, lambda engine: note("validating"))
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: note("concluding"))
    workflow.run()
    workflow.finalize()


if __name__ == "__main__":
    main(FILES, OVERRIDES, LOG, PHASE)  # type: ignore[name-defined]  # noqa: F821
