"""What to cut from which file, and which table rows are refused before any pixel is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miram.prepare.cbis_ddsm.layout import DicomIndex
from miram.prepare.cbis_ddsm.lesions import CropSettings, ImageJob
from miram.prepare.cbis_ddsm.tables import LesionView, patients_in_test


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


def plan_jobs(
    rows: Sequence[LesionView], index: DicomIndex, settings: CropSettings
) -> tuple[dict[str, ImageJob], dict[str, Refusal]]:
    """
    Sort the tables' rows into work and refusals.

    Returns:
        one job for each mammogram, by its series, and the refused rows by their `source`; each row is in exactly one.
    """
    jobs: dict[str, ImageJob] = {}
    refusals: dict[str, Refusal] = {}
    in_test = patients_in_test(rows)
    first: dict[str, LesionView] = {}
    for row in rows:
        refusal = _refuse(row, first.setdefault(row.name, row), in_test, index, settings)
        if refusal is not None:
            refusals[row.source] = refusal
            continue
        image = index.files(row.image_series)[0]
        job = jobs.setdefault(row.image_series, ImageJob(image, {}, tissue_names(row, settings)))
        if settings.lesions:
            job.lesions[row.name] = index.files(*row.lesion_series)
    return jobs, refusals


def tissue_names(row: LesionView, settings: CropSettings) -> tuple[str, ...]:
    """The names of the crops that all lesions of a row's mammogram share: of tissue, or the whole one; or none."""
    view = f"{row.abnormality}_{row.patient}_{row.laterality}_{row.view}"
    if settings.crops == "whole":
        return (f"whole_{view}",)
    count = 0 if settings.crops == "lesion" else settings.crops_per_image
    stem = f"tissue_{view}"
    return tuple(f"{stem}_{number}" for number in range(1, count + 1))


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
