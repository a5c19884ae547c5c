"""The two checkpoint files of a run: the last one, and the previous one in case the last is damaged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from miram.errors import InputError
from miram.files import atomic_write
from miram.weights.backbone import load_weights_file

logger = logging.getLogger(__name__)

Replaced = Literal["keep", "drop", "forget"]

_REMEDY = "Give another output_dir, or start afresh with --resume False"


def previous_of(path: Path) -> Path:
    """The file of the checkpoint before the last: `checkpoint_previous.pt` of `checkpoint.pt`."""
    return path.with_name(f"{path.stem}_previous{path.suffix}")


def exists(path: Path) -> bool:
    """Whether there is a checkpoint; a process killed between two renames leaves only the previous one."""
    return path.exists() or previous_of(path).exists()


def write_checkpoint(path: Path, content: Mapping[str, Any], replaced: Replaced = "keep") -> None:
    """
    Write a checkpoint, completely or not at all.

    Args:
        path: the file.
        content: plain values and tensors.
        replaced: what happens to an existing file: "keep" it as :func:`previous_of`; "drop" it, since it is damaged
            and the previous one is good; "forget" it and the previous one, since they are of another run.
    """
    with atomic_write(path, previous_of(path) if replaced == "keep" else None) as temporary:
        torch.save(dict(content), temporary)
    if replaced == "forget":
        previous_of(path).unlink(missing_ok=True)
        note_of_fresh_start(path).unlink(missing_ok=True)


def note_of_fresh_start(path: Path) -> Path:
    """A marker file beside a checkpoint of another run, from a fresh start until that checkpoint is replaced."""
    return path.with_name(f".{path.stem}_will_be_replaced")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Path]:
    """
    Read the last checkpoint; if it is damaged or missing, read the previous one, with a warning.

    Returns:
        its content, and the file that was read.

    Raises:
        InputError: if none can be read.
    """
    problems = []
    for candidate in (path, previous_of(path)):
        if not candidate.exists():
            continue
        try:
            content = load_weights_file(candidate)
        except InputError as error:
            problems.append(str(error))
            continue
        if candidate != path:
            reason = problems[0] if problems else f"there is no {path}"
            logger.warning("%s; resuming from the previous checkpoint, %s", reason, candidate)
        return content, candidate
    raise InputError(f"no checkpoint can be read: {'; '.join(problems)}. {_REMEDY}")
