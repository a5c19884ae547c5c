"""The items of a split with labels or masks, from which a network learns: checked, counted, and a share of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from miram.data.datalist import Item, load_split
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
        split: "training" or "validation".
        label_fraction: share of the patients to keep, see :func:`miram.data.labelled.take_fraction`.
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


def take_fraction(items: Sequence[Item], task: Task, fraction: float, seed: int = 0) -> list[Item]:
    """
    Keep the items of a share of the patients, to learn from fewer labels.

    The patients are put into one fixed order, and a share is its beginning: so the first 10 % are part of the first
    30 %. The order starts with one patient for each class, rarest class first. After them the strata (sets of classes)
    alternate.

    Args:
        items: of the training split, with known labels.
        task: its classes define the strata.
        fraction: share of the patients, above 0 and at most 1; their number is rounded, but at least one.

    Returns:
        the items of the chosen patients, in the given order.

    Raises:
        InputError: if the fraction is out of range, or leaves a class of the items without a patient.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"label_fraction is {fraction}; give a share above 0 and at most 1")
    if fraction == 1:
        return list(items)
    classes = _classes_of_patients(items, task)
    order = _patient_order(classes, seed)
    chosen = set(order[: max(round(fraction * len(order)), 1)])
    missing = set().union(*classes.values()) - set().union(*(classes[patient] for patient in chosen))
    if missing:
        raise InputError(
            f"label_fraction {fraction} keeps {len(chosen)} of {len(order)} patients and none with "
            f"{', '.join(sorted(missing))} ({task.name}); give a larger fraction"
        )
    return [item for item in items if item["patient"] in chosen]


def _classes_of_patients(items: Sequence[Item], task: Task) -> dict[str, frozenset[str]]:
    """The names of the classes that each patient's items have, in order of appearance."""
    found: dict[str, set[str]] = {}
    for item, target in zip(items, targets(items, task), strict=True):
        names = [name for name, value in zip(task.scored, target, strict=True) if value == 1]
        if task.type == "binary" and target[0] == 0:
            names = [task.classes[0]]
        found.setdefault(item["patient"], set()).update(names)
    return {patient: frozenset(names) for patient, names in found.items()}


def _patient_order(classes: dict[str, frozenset[str]], seed: int) -> list[str]:
    """All patients, ordered so that each beginning of the list resembles the whole as closely as possible."""
    names = list(classes)
    shuffled = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    strata: dict[frozenset[str], list[str]] = {}
    for patient in shuffled:
        strata.setdefault(classes[patient], []).append(patient)
    # the i-th of n patients of a stratum is placed at (i + 1/2) / n of the list
    place = {patient: (i + 0.5) / len(group) for group in strata.values() for i, patient in enumerate(group)}
    order = sorted(shuffled, key=place.__getitem__)
    front = _cover(order, classes)
    return front + [patient for patient in order if patient not in front]


def _cover(order: Sequence[str], classes: dict[str, frozenset[str]]) -> list[str]:
    """The first patient of each class, rarest class first, skipping classes that are already covered."""
    counts = {name: sum(name in had for had in classes.values()) for name in set().union(*classes.values())}
    front: list[str] = []
    covered: set[str] = set()
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        if name not in covered:
            front.append(next(patient for patient in order if name in classes[patient]))
            covered |= classes[front[-1]]
    return front


def load_masked(
    dataset_dir: str | os.PathLike[str],
    split: str,
    label_fraction: float = 1.0,
    seed: int = 0,
    allow_leakage: str | Sequence[str] | None = None,
) -> list[Item]:
    """
    The items of a split; one without a mask (tissue, a view without a box) shows no lesion.

    Args:
        split: "training", "validation" or "test".
        label_fraction: share of the patients to keep, see :func:`miram.data.labelled.take_fraction`.
        allow_leakage: what :func:`miram.data.leakage.check_leakage` accepts for a training split.

    Raises:
        InputError: if no item has a mask, or the training split leaks into another.
    """
    items = load_split(dataset_dir, split)
    if split == "training":
        check_leakage(dataset_dir, allow_leakage)
    if label_fraction < 1:
        items = take_fraction(items, Task("lesion", "binary", ("tissue", "lesion")), label_fraction, seed)
    masked = sum(item.get("mask") is not None for item in items)
    if masked == 0:
        raise InputError(
            f"no image of the {split} split of {dataset_dir} has a mask; prepare lesions with prepare_cbis_ddsm.py, or "
            "with prepare_folder.py and --boxes_csv"
        )
    logger.info("%s: %d images with a lesion's mask, %d without a lesion", split, masked, len(items) - masked)
    return items


def masks_as_samples(items: Sequence[Item]) -> list[dict[str, Any]]:
    """One dictionary per item: "image", "index", and "label", the path of its mask, where it has one."""
    return [
        {"image": item["image"], "index": index} | ({"label": item["mask"]} if item.get("mask") else {})
        for index, item in enumerate(items)
    ]
