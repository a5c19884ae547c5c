"""Whole views of a prepared folder as breasts: which views belong together, and what their lesions say of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miram.data.datalist import FILE_NAME, Item, read_prepared
from miram.data.tasks import Task, read_task, targets
from miram.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Breast:
    """The views of one breast in one examination."""

    name: str  # of the breast: patient, examination if there are several, and side
    patient: str  # whose breast it is
    views: tuple[Item, ...]  # their items
    view_labels: np.ndarray  # (V,) 1, 0 or NaN: whether a lesion of the positive class is in the view

    @property
    def label(self) -> float:
        """1 if any view is positive, otherwise NaN if any is unknown, otherwise 0."""
        return _any_positive(self.view_labels)


def group_breasts(items: Sequence[Item], task: Task) -> list[Breast]:
    """
    Join the views of each breast: those of one patient, `study` if the items have it, and `laterality`.

    A view of unknown side is a breast by itself, which is logged.

    Args:
        items: whole views of a data list.
        task: a binary task.

    Returns:
        in the order of their first views.
    """
    labels = np.array([view_label(item, task) for item in items])
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(_breast_of(item), []).append(place)
    alone = sum(not item.get("laterality") for item in items)
    if alone:
        logger.warning("%d of %d views have no laterality: each counts as a breast by itself", alone, len(items))
    return [
        Breast("/".join(key), key[0], tuple(items[place] for place in places), labels[places])
        for key, places in groups.items()
    ]


def view_label(item: Item, task: Task) -> float:
    """
    Whether a view shows a lesion of the task's positive class.

    Args:
        item: with the task's own key, or with `lesions`, a list of lesions that have it (None is unknown).
        task: a binary task.

    Returns:
        1, 0 or NaN. A view without lesions is negative. A view without a positive lesion is unknown if any of its
        lesions is.
    """
    if task.key in item:
        return float(targets([item], task)[0, 0])
    lesions = item.get("lesions")
    if lesions is None:
        return float("nan")
    labelled = [{"image": item["image"], task.key: lesion.get(task.key)} for lesion in lesions]
    return _any_positive(targets(labelled, task))


def _any_positive(labels: np.ndarray) -> float:
    if (labels == 1).any():
        return 1.0
    return float("nan") if np.isnan(labels).any() else 0.0


def check_views(dataset_dir: str | os.PathLike[str], task: str) -> Task:
    """
    Check that a prepared folder holds whole views and has a binary task.

    Returns:
        the task.

    Raises:
        InputError: if it holds crops, or lacks the task, or the task has other than two classes.
    """
    crops = read_prepared(dataset_dir).get("crops")
    if crops != "whole":
        raise InputError(
            f"{Path(dataset_dir) / FILE_NAME} holds {f'crops ({crops})' if crops else 'images of unknown kind'}, but "
            "exam.yaml takes whole views: prepare them with --crops whole (docs/exam.md), or classify crops of lesions "
            "with finetune.yaml"
        )
    found = read_task(dataset_dir, task)
    if found.type != "binary":
        raise InputError(
            f"the task {task!r} is {found.type} ({', '.join(found.classes)}); exam.yaml takes a task of two classes"
        )
    return found


def _breast_of(item: Mapping[str, object]) -> tuple[str, ...]:
    side = item.get("laterality") or Path(str(item["image"])).stem
    return tuple(str(part) for part in (item["patient"], item.get("study"), side) if part)
