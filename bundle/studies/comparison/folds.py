"""Cross-validation by patient: a prepared folder for each fold, whose test split is the patients left out."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from miram.data.datalist import FILE_NAME, Item, read_datalist, write_datalist
from miram.data.labelled import take_fraction
from miram.data.leakage import groups_to_keep_together
from miram.data.tasks import Task, applicable_items, find_task
from miram.errors import InputError
from miram.files import path_inside
from studies.comparison.settings import Settings

Datalist = dict[str, Any]


def fold_names(settings: Settings) -> list[str]:
    """The names of the folds, or one empty name for the folder's own splits."""
    return [f"fold_{number}_of_{settings.folds}" for number in range(1, settings.folds + 1)] or [""]


def dataset_dir_of(fold: str, settings: Settings) -> Path:
    """The prepared folder of a fold; the comparison's own for the empty name."""
    return settings.output_dir / "folds" / fold if fold else settings.dataset_dir


def fold_lists(settings: Settings) -> dict[str, Datalist]:
    """
    The data list of each fold: its test split is the patients left out, and the others are for training and validation.

    The folds share out the patients of the folder's training and validation splits, in like shares of the first task's
    classes. Patients whose images look the same stay together. The folder's own test split is in no fold.

    Returns:
        data lists by the fold's name; without folds the folder's own, under the empty name.

    Raises:
        InputError: if there are too few patients.
    """
    datalist = read_datalist(settings.dataset_dir)
    if not settings.folds:
        return {"": datalist}
    items = [*datalist["training"], *datalist["validation"]]
    task = find_task(datalist, settings.tasks[0])
    groups = groups_to_keep_together(settings.dataset_dir, items) if items else []
    if len(set(groups)) < settings.folds:
        raise InputError(
            f"{settings.folds} folds need as many patients, but {settings.dataset_dir / FILE_NAME} has only "
            f"{len(set(groups))} for training and validation whose images do not look alike; give fewer --folds"
        )
    parts = _validation_parts(datalist)
    held_out = _deal(items, groups, task, settings.folds)
    return {
        name: datalist | _splits(items, groups, task, test, parts) | {"cross_validation": f"{name} by {task.name}"}
        for name, test in zip(fold_names(settings), held_out, strict=True)
    }


def write_folds(settings: Settings) -> None:
    """
    Write a prepared folder for each fold; images are hard links, or copies where the disk has no links.

    Raises:
        InputError: if a folder holds another fold already.
    """
    for name, datalist in fold_lists(settings).items():
        if not name:
            return
        folder = dataset_dir_of(name, settings)
        path = folder / FILE_NAME
        if path.is_file() and read_datalist(folder) != datalist:
            raise InputError(
                f"{path} is a fold of other data or by another task; give another --output_dir, or remove {folder}"
            )
        for split in ("training", "validation", "test"):
            for item in datalist[split]:
                _link_files(item, settings.dataset_dir, folder)
        if not path.is_file():  # last: a folder with a data list is complete
            write_datalist(folder, datalist)


def check_label_fractions(settings: Settings) -> None:
    """
    Check, before anything runs, that every share of the labels leaves a patient of each class in every fold.

    Raises:
        InputError: naming the fold, and what :func:`miram.data.labelled.take_fraction` says.
    """
    for name, datalist in fold_lists(settings).items():
        for task in (find_task(datalist, task) for task in settings.tasks):
            labelled = [item for item in applicable_items(datalist["training"], task) if item.get(task.key) is not None]
            for share, seed in product(settings.label_fractions, settings.seeds):
                try:
                    take_fraction(labelled, task, share, seed)
                except InputError as error:
                    raise InputError(f"{name or 'the training split'}, seed {seed}: {error}") from error


def _splits(items: Sequence[Item], groups: Sequence[int], task: Task, test: Sequence[int], parts: int) -> Datalist:
    """The splits of a fold: of the patients who are not in the test split, one of `parts` is for validation."""
    rest = sorted(set(range(len(items))) - set(test))
    if len({groups[index] for index in rest}) < 2:
        raise InputError("a fold has only one patient left for training and validation; give more --folds")
    held_out = _deal([items[index] for index in rest], [groups[index] for index in rest], task, parts)[0]
    validation = {rest[index] for index in held_out}
    chosen = {"training": sorted(set(rest) - validation), "validation": sorted(validation), "test": sorted(test)}
    return {split: [items[index] for index in indices] for split, indices in chosen.items()}


def _deal(items: Sequence[Item], groups: Sequence[int], task: Task, parts: int) -> list[list[int]]:
    """Deal the groups out to `parts`, with like shares of each class; returns the indices of each part's items."""
    count = min(parts, len(set(groups)))
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a set of classes may be rarer than there are parts
        dealt = list(splitter.split(np.zeros(len(items)), [_stratum(item, task) for item in items], groups))
    if not all(len(held_out) for _, held_out in dealt):
        raise InputError(f"too few patients for {count} parts with like shares of {task.name!r}; give fewer --folds")
    return [held_out.tolist() for _, held_out in dealt]


def _stratum(item: Item, task: Task) -> str:
    """The item's label as one text; tissue, which has none, is a stratum of its own."""
    if task.key not in item:
        return "none"
    label = item[task.key]
    return str(sorted(map(str, label))) if isinstance(label, list) else str(label)


def _validation_parts(datalist: Datalist, default: float = 0.2) -> int:
    """One in how many patients the folder itself holds out for validation, or 1 / `default` if it holds out none."""
    count, held_out = (len({item["patient"] for item in datalist[split]}) for split in ("training", "validation"))
    share = held_out / (count + held_out) if count and held_out else default
    return max(round(1 / share), 2)


def _link_files(item: Item, source_dir: Path, folder: Path) -> None:
    for relative in (item[key] for key in ("image", "mask") if item.get(key) is not None):
        source, target = path_inside(source_dir, relative), folder / relative
        if not source.is_file():
            raise InputError(f"{source} is missing; run the prepare script again, it writes what is missing")
        if target.is_file() and _state(target) == _state(source):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copy2(source, target)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
