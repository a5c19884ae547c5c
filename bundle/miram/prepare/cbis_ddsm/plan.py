"""What to cut from which file, and which table rows are refused before any pixel is read."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miram.prepare.cbis_ddsm.layout import DicomIndex
from miram.prepare.cbis_ddsm.masks import MaskFiles
from miram.prepare.cbis_ddsm.tables import LesionView, patients_in_test
from miram.prepare.crop_settings import CropSettings
from miram.prepare.image_jobs import ImageJob


@dataclass(frozen=True)
class Refusal:
    """
    Why a row has no crop.

    Args:
        status: "skipped" (on purpose) or "error", as in `report.csv`.
        kind: the reason that many rows share, which the summary counts.
        reason: the same for this row.
    """

    status: str
    kind: str
    reason: str


def plan_rows(
    rows: Sequence[LesionView], index: DicomIndex, settings: CropSettings, mask_tolerance: float, dicom_dir: Path
) -> dict[str, ImageJob | Refusal]:
    """
    Sort the tables' rows into work and refusals.

    Args:
        rows: of the tables.
        index: the files that are there.
        settings: what decides the crops.
        mask_tolerance: see :func:`miram.prepare.cbis_ddsm.masks.fit_mask`.
        dicom_dir: the folder of the files.

    Returns:
        by each row's `source` the job of its mammogram, which rows of one mammogram share, or why it is refused.
    """
    in_test = patients_in_test(rows)
    first: dict[str, LesionView] = {}
    plan: dict[str, ImageJob | Refusal] = {}
    accepted: dict[str, list[LesionView]] = {}
    for row in rows:
        refusal = _refuse(row, first.setdefault(row.name, row), in_test, index, settings)
        if refusal is None:
            accepted.setdefault(row.image_series, []).append(row)
        else:
            plan[row.source] = refusal
    for own in accepted.values():
        job = _job(own, index, settings, mask_tolerance, dicom_dir)
        plan |= {row.source: job for row in own}
    return plan


def _job(
    rows: Sequence[LesionView], index: DicomIndex, settings: CropSettings, mask_tolerance: float, dicom_dir: Path
) -> ImageJob:
    """The job of a mammogram with all its lesions, whose tissue crops may show them: they carry no labels."""
    row, source = rows[0], index.files(rows[0].image_series)[0].path
    lesions = rows if settings.lesions else ()
    masks = (MaskFiles(dicom_dir, source, index.files(*one.lesion_series), mask_tolerance) for one in lesions)
    stem = f"tissue_{row.abnormality}_{row.patient}_{row.laterality}_{row.view}"
    count = 0 if settings.crops == "lesion" else settings.windows
    return ImageJob(
        source,
        zlib.crc32(row.image_series.encode()),
        tissue=tuple(f"{stem}_{number}" for number in range(1, count + 1)),
        regions=tuple(masks),
        lesions=tuple(one.name for one in lesions),
        avoid_lesions=False,
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
        # The cropped image in the lesion's series is no substitute: it has no context and another field of view.
        return Refusal("error", "full mammogram missing", f"full mammogram: {missing}")
    if settings.lesions and not index.files(*row.lesion_series):
        return Refusal("error", "mask missing", f"mask: {index.missing(*row.lesion_series)}")
    return None
