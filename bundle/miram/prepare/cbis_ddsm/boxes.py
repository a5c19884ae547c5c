"""The lesions of CBIS-DDSM as a table of boxes in the full mammograms, which `prepare_folder.py --boxes_csv` reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from miram.cli import shell_path
from miram.data.datalist import SPLITS
from miram.errors import InputError
from miram.files import as_text, write_table
from miram.jobs import run_jobs
from miram.prepare.cbis_ddsm.layout import DicomIndex, scan_dicom
from miram.prepare.cbis_ddsm.prepare import check_mask_tolerance, draw_validation, read_all_tables, stop_if_strict
from miram.prepare.cbis_ddsm.rows import UNFIT, Refusal, plan_rows
from miram.prepare.cbis_ddsm.tables import LesionView, lesion_labels
from miram.prepare.image_crops import CropSettings
from miram.prepare.image_jobs import ImageJob
from miram.prepare.label_table import BOX
from miram.prepare.labels import SEPARATOR
from miram.prepare.regions import Region

Numbers = tuple[int, int, int, int]


@dataclass(frozen=True)
class BoxRow:
    """What became of one row of the tables."""

    row: LesionView
    split: str  # "training", "validation" or "test"
    status: str  # "box", "skipped" (left out on purpose) or "error"
    reason: str = ""  # why there is no box, or a remark on its mask
    kind: str = ""  # without a box, the reason that many rows share; else ""
    image: str = ""  # path of the full mammogram, relative to the folder of DICOM files; "" if the table leaves it out
    numbers: Numbers | None = None  # x, y, width and height in pixels of the mammogram

    def cells(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """The row of the table of boxes; nan says that the lesion's place in the mammogram is not known."""
        row = self.row
        about = {"patient": row.patient, "laterality": row.laterality, "view": row.view}
        told = {"pathology": labels["pathology"], "abnormality": row.abnormality, **labels}
        told |= {"density": row.density, "assessment": row.assessment, "subtlety": row.subtlety}
        numbers = dict(zip(BOX, self.numbers or ["nan"] * len(BOX), strict=True))
        named = {"image": as_text(self.image), **numbers, **about, "lesion": row.lesion, "split": self.split}
        return named | {key: SEPARATOR.join(one) if isinstance(one, list) else one for key, one in told.items()}


@dataclass(frozen=True)
class BoxSummary:
    """What was written; as text, what a user wants to know at the end."""

    dicom_dir: Path
    boxes_csv: Path
    report_csv: Path
    rows: list[BoxRow]  # one for each row of the tables
    seconds: float

    @property
    def statuses(self) -> Counter[str]:
        """The rows by what became of them."""
        return Counter(one.status for one in self.rows)

    @property
    def kinds(self) -> Counter[str]:
        """Those without a box, by the kind of reason."""
        return Counter(one.kind for one in self.rows if one.kind)

    def __str__(self) -> str:
        box, skipped, error = (self.statuses[status] for status in ("box", "skipped", "error"))
        unplaced = sum(bool(one.image) for one in self.rows) - box
        lines = [
            f"{len(self.rows)} table rows = {box} boxes + {skipped} skipped + {error} errors",
            *(f"  {number} rows: {kind}" for kind, number in self.kinds.most_common()),
            *map(self._of_split, SPLITS),
            f"{self.boxes_csv} has the boxes, {self.report_csv} every row ({self.seconds:.0f} seconds)",
            *[f"{unplaced} lesions are in it with nan for a box, since their masks cannot be used"] * bool(unplaced),
            f"next: python scripts/prepare_folder.py --input_dir {shell_path(self.dicom_dir)} "
            f"--boxes_csv {shell_path(self.boxes_csv)} --only_listed --output_dir data/lesions --crops both",
        ]
        return "\n".join(lines)

    def _of_split(self, split: str) -> str:
        patients = [one.row.patient for one in self.rows if one.numbers and one.split == split]
        return f"  {split}: {len(patients)} boxes of {len(set(patients))} patients"


def write_boxes(
    dicom_dir: str | Path,
    csv_dir: str | Path,
    boxes_csv: str | Path,
    mask_tolerance: float = 0.05,
    validation_fraction: float = 0.2,
    seed: int = 0,
    workers: int | None = None,
    strict: bool = False,
    time_limit: float = 300.0,
) -> BoxSummary:
    """
    Write the bounding boxes of all lesions, with their labels and the splits that `prepare_cbis_ddsm` would give.

    Of the mammograms only the headers are read. A lesion whose mask cannot be used has `nan` for its box, so that
    nobody takes its mammogram for one of tissue alone. Beside `boxes_csv`, a report says what became of every row of
    the tables: `boxes_report.csv` for `boxes.csv`.

    Args:
        dicom_dir: the downloaded DICOM files, in any folder layout.
        csv_dir: the tables, all four or some.
        boxes_csv: the table to write; see :func:`miram.prepare.boxes.read_boxes`.
        mask_tolerance: see :func:`miram.prepare.cbis_ddsm.layout.fit_mask`.
        validation_fraction: share of the patients that are in no test table; with `seed`, see
            :func:`miram.prepare.cbis_ddsm.prepare.draw_validation`.
        workers: see :func:`miram.jobs.run_jobs`; also for `time_limit`, the seconds for the mask of a lesion.
        strict: write nothing if any row is an error.

    Raises:
        InputError: if the tables or the folder are wrong, no box can be found at all, or `strict` and any row fails.
    """
    start = time.monotonic()
    dicom_dir, boxes_csv = Path(dicom_dir), Path(boxes_csv)
    check_mask_tolerance(mask_tolerance)
    rows = read_all_tables(csv_dir)
    held_out = draw_validation(rows, validation_fraction, seed)
    index = scan_dicom(dicom_dir)
    plan = plan_rows(rows, index, CropSettings("lesion"), mask_tolerance, dicom_dir)
    refusals = [one for one in plan.values() if isinstance(one, Refusal)]
    stop_if_strict(strict, [one.reason for one in refusals if one.status == "error"], "box")
    found = _find_boxes(rows, plan, index, held_out, workers, time_limit)
    _check_found(found, strict)
    report_csv = boxes_csv.with_name(f"{boxes_csv.stem}_report.csv")
    write_table(boxes_csv, _table(found))
    write_table(report_csv, pd.DataFrame([_report_cells(one) for one in found]))
    return BoxSummary(dicom_dir, boxes_csv, report_csv, found, time.monotonic() - start)


@dataclass(frozen=True)
class _Lesion:
    """A lesion whose box is to be found."""

    name: str
    region: Region
    shape: tuple[int, int]  # (H, W) of the mammogram


def _find_boxes(
    rows: Sequence[LesionView],
    plan: Mapping[str, ImageJob | Refusal],
    index: DicomIndex,
    held_out: Collection[str],
    workers: int | None,
    time_limit: float,
) -> list[BoxRow]:
    """What becomes of each row."""
    lesions = {row.source: _lesion(row, job, index) for row in rows if isinstance(job := plan[row.source], ImageJob)}
    results = run_jobs(list(lesions.values()), find_box, workers, "reading masks", time_limit, lambda one: one.name)
    refusals = {source: one for source, one in plan.items() if isinstance(one, Refusal)}
    found = refusals | dict(zip(lesions, results, strict=True))
    splits = ["validation" if row.patient in held_out else row.split for row in rows]
    return [_box_row(row, split, found[row.source], index) for row, split in zip(rows, splits, strict=True)]


def _lesion(row: LesionView, job: ImageJob, index: DicomIndex) -> _Lesion:
    mammogram = index.files(row.image_series)[0]
    return _Lesion(row.name, job.regions[job.lesions.index(row.name)], (mammogram.rows, mammogram.columns))


def find_box(lesion: _Lesion) -> tuple[Numbers, str]:
    """
    The bounding box of a lesion's mask.

    Returns:
        x, y, width and height in pixels of the mammogram, and a remark on the mask or "".

    Raises:
        InputError: if the mask cannot be used.
    """
    mask, remark = lesion.region.mask(lesion.shape)
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start), remark


def _box_row(
    row: LesionView, split: str, found: Refusal | tuple[Numbers, str] | InputError, index: DicomIndex
) -> BoxRow:
    mammogram = next((file.path for file in index.files(row.image_series)), "")
    if isinstance(found, Refusal):
        image = mammogram if found.status == "error" else ""
        return BoxRow(row, split, found.status, found.reason, found.kind, image)
    if isinstance(found, InputError):
        return BoxRow(row, split, "error", str(found), UNFIT, mammogram)
    return BoxRow(row, split, "box", found[1], "", mammogram, found[0])


def _check_found(found: Sequence[BoxRow], strict: bool) -> None:
    errors = [one.reason for one in found if one.status == "error"]
    stop_if_strict(strict, errors, "box")
    if not any(one.numbers for one in found):
        first = errors[0] if errors else "there is no row to use"
        raise InputError(f"none of the {len(found)} rows of the tables gives a box; the first: {first}")


def _table(found: Sequence[BoxRow]) -> pd.DataFrame:
    """The table of boxes, all of its cells text or whole numbers."""
    labels = lesion_labels(one.row for one in found)
    return pd.DataFrame([one.cells(labels[one.row.lesion]) for one in found if one.image], dtype=object)


def _report_cells(one: BoxRow) -> dict[str, str]:
    told = {"source": one.row.source, "status": one.status, "reason": one.reason, "image": one.image}
    return {key: as_text(text) for key, text in told.items()} | {"patient": one.row.patient}
