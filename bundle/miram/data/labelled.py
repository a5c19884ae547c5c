"""The labelled items of a split, from which a classifier learns, checked and counted."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from miram.data.datalist import Item, load_split
from miram.data.fractions import take_fraction
from miram.data.leakage import check_leakage
from miram.data.tasks import Task, applicable_items, class_counts, targets, unknown_count
from miram.errors import InputError

logger = logging.getLogger(__name__)


def load_labelled(
    dataset_dir: str | os.PathLike[str],
    split: str,
    task: Task,
    label_fraction: float = 1.0,
    seed: int = 0,
    allow_leakage: str | Sequence[str] | None = None,
) -> list[Item]:
    """
    The items of a split whose label is known; the number of these and of the others is logged.

    Args:
        dataset_dir: a prepared folder.
        split: "training" or "validation".
        task: the task.
        label_fraction: share of the patients to keep, see :func:`miram.data.fractions.take_fraction`.
        seed: for that share.
        allow_leakage: what :func:`miram.data.leakage.check_leakage` accepts for a training split.

    Raises:
        InputError: if the training split leaks into another, fewer than two classes remain, or the share leaves a
            class without a patient.
    """
    items = load_split(dataset_dir, split)
    if split == "training":
        check_leakage(dataset_dir, allow_leakage)
    applicable = applicable_items(items, task)
    known = [item for item in applicable if item.get(task.key) is not None]
    unknown = unknown_count(applicable, task)
    check_classes(known, task, split, unknown)
    kept = take_fraction(known, task, label_fraction, seed)
    logger.info(
        "%s of %s%s: %d images of %d patients (%s); left out: %d of unknown label, %d that cannot have one%s",
        split,
        task.name,
        f" (positive: {task.scored[0]})" if task.type == "binary" else "",
        len(kept),
        len({item["patient"] for item in kept}),
        _describe(class_counts(kept, task)),
        unknown,
        len(items) - len(applicable),
        f", {len(known) - len(kept)} beyond label_fraction {label_fraction}" if len(kept) < len(known) else "",
    )
    return kept


def check_classes(items: Sequence[Item], task: Task, split: str, unknown: int = 0) -> None:
    """
    Check that a split has enough classes to learn from.

    Args:
        items: with known labels.
        task: the task.
        split: named in the message.
        unknown: how many items were left out because their label is unknown, for the message.

    Raises:
        InputError: if a binary or multi-class task has fewer than two classes, or no class of a multi-label task has
            both positive and negative items.
    """
    table = targets(items, task)
    both = (table == 1).any(axis=0) & (table == 0).any(axis=0)
    if not both.any():
        raise InputError(
            f"the {split} split has only one class of the task {task.name!r}: {_describe(class_counts(items, task))}, "
            f"and {unknown} unknown. Label more images, or prepare the folder again with another --validation_fraction"
        )


def targets_as_samples(items: Sequence[Item], task: Task) -> list[dict[str, Any]]:
    """One dictionary per item: "image", its path, and "label", its targets (K,) in float32."""
    labels = targets(items, task).astype(np.float32)
    return [{"image": item["image"], "label": label} for item, label in zip(items, labels, strict=True)]


def _describe(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
