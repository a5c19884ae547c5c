"""What should be looked at in a table of labels: spellings, ids taken for labels, words for what is not known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from miram.prepare.labels import LabelColumn, Labels, as_number
from miram.prepare.prepared import ReportRow

UNKNOWN_WORDS = {"none", "na", "n/a", "#n/a", "nan", "null", "nil", "unknown", "missing", "?", "-", "--"}


def remarks_on_labels(columns: Mapping[str, LabelColumn]) -> list[str]:
    """A line for each oddity of the label columns."""
    remarks = []
    for name, column in columns.items():
        if column.is_identifier:
            remarks.append(f"column {name} has a value of its own in most images: no task is proposed of it")
            continue
        remarks += [
            f"classes of {name} differ only in spelling: {_listed(group)}; spell them alike if they are one class"
            for group in alike(column.classes)
        ]
        words = [word for word in column.classes if word.casefold() in UNKNOWN_WORDS]
        if words:
            remarks.append(
                f"column {name} has the class {_listed(words)}: only an empty cell is unknown; empty those cells if "
                "that is meant"
            )
    return remarks


def remarks_on_boxes(rows: Sequence[ReportRow]) -> list[str]:
    """A line on the boxes that are errors, and one on those that were cut and have a remark."""
    remarks = []
    for status, what in (("error", "are errors"), ("crop", "are to be looked at")):
        found = [row for row in rows if row.status == status and row.reason]
        if found:
            remarks.append(f"{len(found)} boxes {what}, the first: {found[0].source}: {found[0].reason}")
    return remarks


def remarks_on_patients(labels: Labels) -> list[str]:
    """A line for each group of patients who may be one: then their images may be in two splits."""
    patients = (row.patient for row in labels.images.values() if row.patient is not None)
    return [
        f"patients differ only in spelling: {_listed(group)}; spell them alike if they are one patient"
        for group in alike(patients)
    ]


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in capitals, in spaces, or in how a number is written."""
    groups: dict[str | float, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        number = as_number(name)
        groups["".join(name.casefold().split()) if number is None else number].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
