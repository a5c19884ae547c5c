"""Classification tasks by name, from the data list: their classes, and each item's target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from miram.data.datalist import SPLITS, Item, read_datalist
from miram.errors import InputError

TaskType = Literal["binary", "multiclass", "multilabel"]

# Tasks whose name differs from the items' key.
_KEYS = {"pathology3": "pathology", "lesion": "crop"}
# The kinds of crops that the task `lesion` tells apart; the last is positive.
_CROPS = ("tissue", "lesion")
# The three published classes of pathology; the binary task has two: malignant or not.
_PATHOLOGY = {"BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"}
_SYNONYMS = {"BENIGN_WITHOUT_CALLBACK": "BENIGN"}


@dataclass(frozen=True)
class Task:
    """What is predicted for an image."""

    name: str  # the name that users give: "pathology", or any key of the data list's `label_names`
    type: TaskType  # "binary" (one of two classes), "multiclass" (one of several) or "multilabel" (any number of them)
    classes: tuple[str, ...]  # their names; (negative, positive) for a binary task

    def __post_init__(self) -> None:
        """Convert a list of classes, as stored in files, to a tuple."""
        object.__setattr__(self, "classes", tuple(self.classes))

    @property
    def key(self) -> str:
        """The items' key that holds the label."""
        return _KEYS.get(self.name, self.name)

    @property
    def scored(self) -> tuple[str, ...]:
        """The K classes that have a logit; for a binary task only the positive one."""
        return self.classes[-1:] if self.type == "binary" else self.classes


def find_task(datalist: dict[str, Any], name: str) -> Task:
    """
    Find a task by its name.

    Two classes make a binary task, whose positive class is the last; more make a multi-class task; and labels that are
    lists of classes make a multi-label task. CBIS-DDSM's `pathology` is malignant or not; `pathology3` has all three
    classes. `lesion` tells crops of lesions from crops of tissue, where the data list has both.

    Args:
        name: a key of its `label_names`, "pathology3" or "lesion".

    Raises:
        InputError: if the data list lacks the task (the message lists those it has), or the task has only one class.
    """
    names = task_names(datalist)
    if name not in names:
        has = f"it has {', '.join(names)}" if names else "it has none: prepare the folder with a CSV of labels"
        has += "; lesions and tissue are told apart where it has crops of both (--crops both)" * (name == "lesion")
        raise InputError(f"the data list {datalist.get('name', '')!r} has no task {name!r}; {has}")
    if name == "lesion":
        return Task(name, "binary", _CROPS)
    key = _KEYS.get(name, name)
    classes = tuple(str(value) for value in datalist["label_names"][key])
    if name == "pathology" and _is_pathology(datalist):
        classes = ("BENIGN", "MALIGNANT")
    if len(classes) < 2:
        raise InputError(
            f"the task {name!r} has only one class, {list(classes)}, so there is nothing to distinguish. Give labels "
            "of at least two classes"
        )
    return Task(name, _task_type(datalist, key, classes), classes)


def read_task(dataset_dir: str | os.PathLike[str], name: str) -> Task:
    """:func:`find_task` in the data list of a prepared folder."""
    return find_task(read_datalist(dataset_dir), name)


def task_names(datalist: dict[str, Any]) -> list[str]:
    """The tasks of a data list."""
    names = list(datalist.get("label_names", {}))
    crops = {item.get("crop") for split in SPLITS for item in datalist.get(split, [])}
    return [*names, *["pathology3"] * _is_pathology(datalist), *["lesion"] * (crops >= set(_CROPS))]


def targets(items: Sequence[Item], task: Task) -> np.ndarray:
    """
    The targets of items.

    Returns:
        (N, K) floats 1, 0 or NaN, K = `len(task.scored)`: a binary task has one column, for its positive class; a
        multi-class task is one-hot. The row of an unknown label is NaN.

    Raises:
        InputError: if a label is not one of the task's classes.
    """
    table = np.full((len(items), len(task.classes)), np.nan)
    for row, item in enumerate(items):
        values = _values(item, task)
        if values is not None:
            table[row] = [name in values for name in task.classes]
    return table[:, -1:] if task.type == "binary" else table


def applicable_items(items: Iterable[Item], task: Task) -> list[Item]:
    """
    The items to which the task applies, whether their label is known or not.

    A calcification does not have the margins of a mass, and a crop of tissue does not have a lesion's pathology: such
    labels are not unknown, they do not exist. So an item without a label is excluded if it lacks the key, or if no item
    of its kind (`abnormality`) has a label.
    """
    with_key = [item for item in items if task.key in item]
    kinds = {item.get("abnormality") for item in with_key if item[task.key] is not None}
    return [item for item in with_key if not kinds or item.get("abnormality") in kinds]


def class_counts(items: Sequence[Item], task: Task) -> dict[str, int]:
    """The number of items of each class (in a multi-label task an item may count several times)."""
    table = targets(items, task)
    positive = np.nansum(table, axis=0).astype(int).tolist()
    counts = dict(zip(task.scored, positive, strict=True))
    return {task.classes[0]: int((table == 0).sum()), **counts} if task.type == "binary" else counts


def unknown_count(items: Sequence[Item], task: Task) -> int:
    """The number of items without a known label."""
    return sum(item.get(task.key) is None for item in items)


def _is_pathology(datalist: dict[str, Any]) -> bool:
    return set(datalist.get("label_names", {}).get("pathology", [])) == _PATHOLOGY


def _task_type(datalist: dict[str, Any], key: str, classes: Sequence[str]) -> TaskType:
    items = (item for split in SPLITS for item in datalist.get(split, []))
    if any(isinstance(item.get(key), list) for item in items):
        return "multilabel"
    return "binary" if len(classes) == 2 else "multiclass"


def _values(item: Item, task: Task) -> set[str] | None:
    """The names of the item's classes; None where unknown."""
    label = item.get(task.key)
    if label is None:
        return None
    names = {str(value) for value in (label if isinstance(label, list) else [label])}
    names = {name if name in task.classes else _SYNONYMS.get(name, name) for name in names}
    if not names <= set(task.classes):
        raise InputError(
            f"{item['image']}: {task.key} {sorted(names - set(task.classes))} is not a class of the task "
            f"{task.name!r}, which has {', '.join(task.classes)}"
        )
    return names
