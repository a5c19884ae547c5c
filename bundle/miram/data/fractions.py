"""A share of the training patients: stratified, seeded, and nested, so that larger shares contain smaller ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miram.data.datalist import Item
from miram.data.tasks import Task, targets
from miram.errors import InputError


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
        seed: for the order.

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
