"""A row of the tables: what to cut for it, or why it is refused, and what became of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miram.data.datalist import Item
from miram.errors import InputError
from miram.prepare.cbis_ddsm.layout import DicomIndex, MaskFiles
from miram.prepare.cbis_ddsm.tables import LesionView, patients_in_test
from miram.prepare.image_crops import CropSettings
from miram.prepare.image_jobs import ImageJob
from miram.prepare.prepared import ReportRow
from miram.prepare.records import Crop, Record

_MASK_MISSING = "mask missing"
UNFIT = "unreadable or unfit files"  # the kind of a row whose files are there and cannot be used


@dataclass(frozen=True)
class Refusal:
    """Why a row has no crop."""

    status: str  # "skipped" (on purpose) or "error", as in `report.csv`
    kind: str  # the reason that many rows share, which the summary counts
    reason: str  # the same for this row


def plan_rows(
    rows: Sequence[LesionView], index: DicomIndex, settings: CropSettings, mask_tolerance: float, dicom_dir: Path
) -> dict[str, ImageJob | Refusal]:
    """
    Sort the tables' rows into work and refusals.

    Returns:
        by each row's `source` the job of its mammogram, which rows of one mammogram share, or why it is refused.
    """
    in_test = patients_in_test(rows)
    first: dict[str, LesionView] = {}
    plan: dict[str, ImageJob | Refusal] = {}
    accepted: dict[str, list[LesionView]] = {}
    hidden: dict[str, list[LesionView]] = {}  # lesions whose place in the mammogram is not known
    for row in rows:
        refusal = _refuse(row, first.setdefault(row.name, row), in_test, index, settings)
        if refusal is None:
            accepted.setdefault(row.image_series, []).append(row)
        else:
            plan[row.source] = refusal
            if refusal.kind == _MASK_MISSING:
                hidden.setdefault(row.image_series, []).append(row)
    for series, own in accepted.items():
        job = _job([*own, *hidden.get(series, [])], index, settings, mask_tolerance, dicom_dir)
        plan |= {row.source: job for row in own}
    return plan


def _job(
    rows: Sequence[LesionView], index: DicomIndex, settings: CropSettings, mask_tolerance: float, dicom_dir: Path
) -> ImageJob:
    """The job of a mammogram with all its lesions, which its tissue crops avoid."""
    row, source = rows[0], index.files(rows[0].image_series)[0].path
    lesions = rows if settings.lesions else ()
    masks = (MaskFiles(dicom_dir, source, index.files(*one.lesion_series), mask_tolerance) for one in lesions)
    view = f"{row.abnormality}_{row.patient}_{row.laterality}_{row.view}"
    count = 0 if settings.crops == "lesion" else settings.windows
    tissue = tuple(f"tissue_{view}_{number}" for number in range(1, count + 1))
    return ImageJob(
        source,
        zlib.crc32(row.image_series.encode()),
        tissue=(f"whole_{view}",) if settings.crops == "whole" else tissue,
        regions=tuple(masks),
        lesions=tuple(one.name for one in lesions),
    )


def _refuse(
    row: LesionView, first: LesionView, in_test: set[str], index: DicomIndex, settings: CropSettings
) -> Refusal | None:
    if row.split == "training" and row.patient in in_test:
        return Refusal(
            "skipped", "training row of a patient who is in a test table", f"{row.patient} is in a test table"
        )
    if first is not row:
        return Refusal("skipped", "repeated row", f"the same lesion and view as {first.source}")
    missing = index.missing(row.image_series)
    if missing:
        # The cropped image in the lesion's series is not a substitute: it has no context and another field of view.
        return Refusal("error", "full mammogram missing", f"full mammogram: {missing}")
    if settings.lesions and not index.files(*row.lesion_series):
        return Refusal("error", _MASK_MISSING, f"mask: {index.missing(*row.lesion_series)}")
    return None


@dataclass
class Outcome:
    """What became of one row of a table."""

    report: ReportRow  # its row of `report.csv`
    kind: str = ""  # for a row without its crop, the reason that many rows share; else ""
    lesion: Item | None = None  # the item of its lesion's crop, where there is one
    # the items of its mammogram's tissue crops, or of the whole one, which rows of the same mammogram share
    tissue: list[Item] = field(default_factory=list)


def refused(row: LesionView, refusal: Refusal) -> Outcome:
    """The outcome of a row that was refused before any pixel was read."""
    return Outcome(ReportRow(row.source, refusal.status, refusal.reason, patient=row.patient), refusal.kind)


def outcome(row: LesionView, job: ImageJob, result: Record | InputError, labels: Item) -> Outcome:
    """The outcome of a row whose mammogram was worked on."""
    region = job.lesions.index(row.name) if row.name in job.lesions else None
    record = None if isinstance(result, InputError) else result
    crops = [crop for crop in record.crops if crop.region in (region, None)] if record else []
    items = [_item(row, crop, labels) | {"hash": record.facts["hash"]} for crop in crops] if record else []
    lesion = next((item for item in items if item["crop"] == "lesion"), None)
    tissue = [item for item in items if item["crop"] != "lesion"]
    failed = not tissue if region is None else lesion is None
    report = ReportRow(
        row.source,
        "error" if failed else "crop",
        _remarks(job, region, result, len(tissue)),
        tuple(name for crop in crops for name in crop.files),
        row.patient,
        record.scaling if record else "",
    )
    return Outcome(report, UNFIT if failed else "", lesion, tissue)


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
    show a lesion, a part of one or none, so it has no label of one. A whole mammogram lists its lesions.
    """
    item: Item = {"image": crop.image, "mask": crop.mask, "crop": crop.kind}
    item |= {"patient": row.patient, "laterality": row.laterality, "view": row.view, "density": row.density}
    item["lesion"] = None if crop.region is None else row.lesion
    if crop.kind == "whole":
        item["lesions"] = [{"lesion": row.lesion, **labels}]
    elif crop.region is not None:
        item |= {"abnormality": row.abnormality, **labels, "assessment": row.assessment, "subtlety": row.subtlety}
        item["view_labels"] = {"pathology": row.pathology, **row.descriptors}
    return item | {"zoom": crop.zoom}
