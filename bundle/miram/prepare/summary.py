"""What a run of `prepare_folder` did, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miram.prepare.labels import LabelColumn
from miram.prepare.records import Record


@dataclass(frozen=True)
class Summary:
    """
    What a run did.

    Args:
        output_dir: the prepared folder.
        files: found, images or not.
        images: images that gave crops.
        reused: files that an earlier run had prepared, or skipped.
        crops: crops in the data list.
        patients: patients in the data list, by split.
        origins: images by what named their patient ("csv", "pattern", "dicom", "study", "file").
        reasons: files that gave no crop, by reason.
        kinds: crops of each kind: "tissue", "whole", "lesion".
        lesions: different lesions that have a crop.
        boxes: rows of a table of boxes that name an image.
        box_reasons: those of them that gave no lesion crop, by reason.
        rows: of the table of labels or boxes.
        rows_without_image: those of them that name no image.
        labels: what each column of labels holds.
        remarks: what should be looked at in the table.
        dark: images whose brightest pixel is below a quarter of the range.
        spatial_dims: of the crops: 2, or 3 for volumes.
        notices: images with each of :data:`miram.readers.header_notices.NOTICES`.
        pairs: images for processing whose view is there for presentation, too.
    """

    output_dir: Path
    files: int
    images: int
    reused: int
    crops: int
    kinds: dict[str, int]
    lesions: int
    boxes: int
    box_reasons: dict[str, int]
    patients: dict[str, int]
    origins: dict[str, int]
    reasons: dict[str, int]
    rows: int
    rows_without_image: int
    labels: dict[str, LabelColumn]
    remarks: list[str]
    dark: int
    spatial_dims: int
    notices: dict[str, int]
    pairs: int

    @property
    def tasks(self) -> list[str]:
        """The columns of labels that can be learned."""
        return [name for name, column in self.labels.items() if column.is_task]


def count_pairs(records: Sequence[Record]) -> int:
    """How many images for processing have a twin for presentation: of their study (or patient), side and view."""
    keys: dict[str, Counter[Any]] = {"FOR PROCESSING": Counter(), "FOR PRESENTATION": Counter()}
    for record in records:
        whose, facts = record.study or record.patient, record.facts
        intent = record.header.get("presentation_intent_type")
        if whose and intent in keys and facts["view"]:
            keys[intent][whose, facts["laterality"], record.header["view"]] += 1
    return sum(count for key, count in keys["FOR PROCESSING"].items() if keys["FOR PRESENTATION"][key])
