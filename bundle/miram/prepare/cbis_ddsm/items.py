"""The data list's items and the report's rows, from the tables' rows and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from miram.data.datalist import Item
from miram.errors import InputError
from miram.prepare.cbis_ddsm.plan import Refusal
from miram.prepare.cbis_ddsm.tables import LesionView
from miram.prepare.image_jobs import ImageJob
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Crop, Record


@dataclass
class Outcome:
    """
    What became of one row of a table.

    Args:
        report: its row of `report.csv`.
        kind: for a row without its crop, the reason that many rows share; else "".
        lesion: the item of its lesion's crop, where there is one.
        tissue: the items of its mammogram's tissue crops, which rows of the same mammogram share.
    """

    report: ReportRow
    kind: str = ""
    lesion: Item | None = None
    tissue: list[Item] = field(default_factory=list)


def refused(row: LesionView, refusal: Refusal) -> Outcome:
    """The outcome of a row that was refused before any pixel was read."""
    return Outcome(ReportRow(row.source, refusal.status, refusal.reason, patient=row.patient), refusal.kind)


def outcome(row: LesionView, job: ImageJob, result: Record | InputError, labels: Item) -> Outcome:
    """
    The outcome of a row whose mammogram was worked on.

    Args:
        row: of a table.
        job: of its mammogram.
        result: what became of it.
        labels: the lesion's, on which its views agree (:func:`miram.prepare.cbis_ddsm.tables.lesion_labels`).
    """
    region = job.lesions.index(row.name) if row.name in job.lesions else None
    record = None if isinstance(result, InputError) else result
    crops = [crop for crop in record.crops if crop.region in (region, None)] if record else []
    items = [_item(row, crop, labels) | {"hash": record.facts["hash"]} for crop in crops] if record else []
    lesion = next((item for item in items if item["crop"] == "lesion"), None)
    tissue = [item for item in items if item["crop"] == "tissue"]
    failed = not tissue if region is None else lesion is None
    report = ReportRow(
        row.source,
        "error" if failed else "crop",
        _remarks(job, region, result, len(tissue)),
        tuple(name for crop in crops for name in crop.files),
        row.patient,
        record.scaling if record else "",
    )
    return Outcome(report, "unreadable or unfit files" if failed else "", lesion, tissue)


def _remarks(job: ImageJob, region: int | None, result: Record | InputError, tissue: int) -> str:
    """Why a row lacks crops, and what to know of those that it has."""
    if isinstance(result, InputError):
        return str(result)
    if region is not None and not result.region_remarks:  # the mammogram was skipped
        return f"{job.source}: {result.reason}"
    remarks = [] if region is None else [result.region_remarks[region]]
    if tissue < len(job.tissue):
        remarks.append(f"{job.source} has tissue for {tissue} different crops only")
    return "; ".join(filter(None, remarks))


def _item(row: LesionView, crop: Crop, labels: Mapping[str, Any]) -> Item:
    """
    The item of a crop.

    Of a lesion's, `labels` are the lesion's, and `view_labels` this view's own, which may differ. A tissue crop may
    show a lesion, a part of one or none, so it has no label of one.
    """
    paths = {"image": crop.image, "mask": crop.mask, "crop": crop.kind}
    about = {"patient": row.patient, "laterality": row.laterality, "view": row.view, "density": row.density}
    if crop.region is None:
        return {**paths, **about, "lesion": None, "zoom": crop.zoom}
    return {
        **paths,
        **about,
        "lesion": row.lesion,
        "abnormality": row.abnormality,
        **labels,
        "assessment": row.assessment,
        "subtlety": row.subtlety,
        "view_labels": {"pathology": row.pathology, **row.descriptors},
        "zoom": crop.zoom,
    }
