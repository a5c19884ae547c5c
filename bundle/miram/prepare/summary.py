"""What a run of `prepare_folder` did, in figures, and what should be checked in its table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miram.data.datalist import SPLITS, Item
from miram.prepare.label_table import as_number
from miram.prepare.labels import Labels
from miram.prepare.listing import LabelColumn
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Record
from miram.readers.dicom_facts import notices

UNKNOWN_WORDS = {"none", "na", "n/a", "#n/a", "nan", "null", "nil", "unknown", "missing", "?", "-", "--"}


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    output_dir: Path  # the prepared folder
    files: int  # found, images or not
    images: int  # images that gave crops
    reused: int  # files that an earlier run had prepared, or skipped
    crops: int  # crops in the data list
    kinds: dict[str, int]  # crops of each kind: "tissue", "whole", "lesion"
    lesions: int  # different lesions that have a crop, or are in a whole image
    boxes: int  # rows of a table of boxes that name an image
    box_reasons: dict[str, int]  # those of them that gave no lesion crop, by reason
    patients: dict[str, int]  # patients in the data list, by split
    origins: dict[str, int]  # images by what named their patient ("csv", "pattern", "dicom", "study", "file")
    reasons: dict[str, int]  # files that gave no crop, by reason
    rows: int  # of the table of labels or boxes
    rows_without_image: int  # those of them that name no image
    labels: dict[str, LabelColumn]  # what each column of labels holds
    remarks: list[str]  # what should be checked in the table
    dark: int  # images whose brightest pixel is below a quarter of the range
    spatial_dims: int  # of the crops: 2, or 3 for volumes
    notices: dict[str, int]  # images with each of :data:`miram.readers.dicom_facts.NOTICES`
    pairs: int  # images for processing whose view is there for presentation, too

    @property
    def tasks(self) -> list[str]:
        """The columns of labels that can be learned."""
        return [name for name, column in self.labels.items() if column.is_task]


def summarise(
    output_dir: Path,
    records: Sequence[Record],
    reused: int,
    origins: Mapping[str, int],
    image_rows: Sequence[ReportRow],
    box_rows: Sequence[ReportRow],
    splits: Mapping[str, Sequence[Item]],
    labels: Labels,
    columns: dict[str, LabelColumn],
) -> Summary:
    """Count what was done."""
    items = [item for split in SPLITS for item in splits[split]]
    return Summary(
        output_dir=output_dir,
        files=len(image_rows),
        images=len(records),
        reused=reused,
        crops=len(items),
        patients={split: len({item["patient"] for item in splits[split]}) for split in SPLITS},
        origins=dict(origins),
        kinds=dict(Counter(item["crop"] for item in items)),
        lesions=count_lesions(items),
        boxes=len(box_rows) + len(labels.repeated),
        box_reasons=_reasons([*labels.repeated, *box_rows], "error"),
        reasons=_reasons(image_rows, "could not be read"),
        rows=labels.rows,
        rows_without_image=len(labels.missing),
        labels=columns,
        remarks=[
            *labels.remarks,
            *remarks_on_boxes(box_rows),
            *remarks_on_labels(columns),
            *remarks_on_patients(labels),
        ],
        dark=sum(record.dark for record in records),
        spatial_dims=records[0].spatial_dims,
        notices=dict(Counter(notice for record in records for notice in notices(record.header))),
        pairs=count_pairs(records),
    )


def count_lesions(items: Sequence[Item]) -> int:
    """How many different lesions the items show; one without a name in a whole image's list is one of its own."""
    listed = (
        (item["patient"], lesion.get("lesion") or (item["image"], number))
        for item in items
        for number, lesion in enumerate(item.get("lesions") or [])
    )
    return len({item["lesion"] for item in items if item.get("lesion")} | set(listed))


def _reasons(rows: Sequence[ReportRow], error: str) -> dict[str, int]:
    """How many rows gave no crop, by a short reason: without the file's name."""
    without = [row for row in rows if row.status != "crop"]
    return dict(Counter(row.reason if row.status == "skipped" else error for row in without))


def count_pairs(records: Sequence[Record]) -> int:
    """How many images for processing have a twin for presentation: of their study (or patient), side and view."""
    keys: dict[str, Counter[Any]] = {"FOR PROCESSING": Counter(), "FOR PRESENTATION": Counter()}
    for record in records:
        whose, facts = record.study or record.patient, record.facts
        intent = record.header.get("presentation_intent_type")
        if whose and intent in keys and facts["view"]:
            keys[intent][whose, facts["laterality"], record.header["view"]] += 1
    return sum(count for key, count in keys["FOR PROCESSING"].items() if keys["FOR PRESENTATION"][key])


def remarks_on_labels(columns: Mapping[str, LabelColumn]) -> list[str]:
    """A line for each oddity of the label columns."""
    remarks = []
    for name, column in columns.items():
        if column.is_identifier:
            remarks.append(f"column {name} has a value of its own in most images: no task is proposed for it")
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
    for status, what in (("error", "are errors"), ("crop", "should be checked")):
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
