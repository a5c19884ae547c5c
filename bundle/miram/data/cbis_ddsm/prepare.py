"""CBIS-DDSM as downloaded, made into a folder of crops with labels."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from miram.data.cbis_ddsm.items import Item, Outcome, outcome, refused
from miram.data.cbis_ddsm.layout import scan_dicom
from miram.data.cbis_ddsm.lesions import CropSettings, ImageCrops, ImageJob
from miram.data.cbis_ddsm.plan import Refusal, plan_jobs, tissue_names
from miram.data.cbis_ddsm.resume import STATE_DIR, check_settings, cut_or_recall, save_settings
from miram.data.cbis_ddsm.tables import LesionView, absent_test_tables, label_names, lesion_labels, read_tables
from miram.data.datalist import FILE_NAME, SPLITS, split_by_patient, write_datalist
from miram.data.prepared import run_jobs, write_report
from miram.errors import InputError

logger = logging.getLogger(__name__)

CBIS_DDSM = {
    "name": "CBIS-DDSM",
    "modality": "MG",
    "source": "https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY",
    "licence": "CC BY 3.0",
}


@dataclass(frozen=True)
class Summary:
    """
    What was prepared; as text, what a user wants to know at the end.

    Args:
        output_dir: the prepared folder.
        rows: rows of the tables; each is one row of `report.csv` too.
        statuses: rows by what became of them: "crop", "skipped", "error".
        kinds: rows skipped or failed, by the kind of reason.
        crops: crops of each split.
        patients: patients of each split.
        lesions: lesions that have a crop.
        seconds: time taken.
    """

    output_dir: Path
    rows: int
    statuses: Counter[str]
    kinds: Counter[str]
    crops: dict[str, int]
    patients: dict[str, int]
    lesions: int
    seconds: float

    def __str__(self) -> str:
        crop, skipped, error = (self.statuses[status] for status in ("crop", "skipped", "error"))
        lines = [
            f"{self.rows} table rows = {crop} with crops + {skipped} skipped + {error} errors",
            *(f"  {number} rows: {kind}" for kind, number in self.kinds.most_common()),
            *(f"  {split}: {self.crops[split]} crops of {self.patients[split]} patients" for split in SPLITS),
            f"  {self.lesions} lesions, {self.seconds:.0f} seconds; every row is in {self.output_dir / 'report.csv'}",
            "next: python -m monai.bundle run training --config_file configs/pretrain.yaml "
            f"--dataset_dir {self.output_dir}",
        ]
        return "\n".join(lines)


def prepare_cbis_ddsm(
    dicom_dir: str | Path,
    csv_dir: str | Path,
    output_dir: str | Path,
    crops: str = "lesion",
    crop_size: int = 512,
    context: float = 1.5,
    crops_per_image: int = 4,
    mask_tolerance: float = 0.05,
    validation_fraction: float = 0.2,
    seed: int = 0,
    workers: int | None = None,
    strict: bool = False,
    description: Mapping[str, str] = CBIS_DDSM,
) -> Summary:
    """
    Cut CBIS-DDSM into 16-bit crops with masks and labels, split by patient.

    Lee et al., A curated mammography data set for use in computer-aided detection and diagnosis research, 2017.
    A lesion's crop is cut from the full mammogram, centred on its mask. The official test rows are the test split;
    validation is drawn from the other patients, stratified by pathology. A second run continues where one stopped.

    Args:
        dicom_dir: the downloaded DICOM files, in any folder layout.
        csv_dir: the tables, all four or some.
        output_dir: the folder to write: new, or one that this function made with the same settings.
        crops: "lesion", "tissue" (random breast tissue, unlabelled) or "both".
        crop_size: side of the crops in pixels.
        context: a lesion's crop shows at least this many times its bounding box, reduced if that is over `crop_size`.
        crops_per_image: tissue crops of each mammogram.
        mask_tolerance: a mask of slightly other proportions than the mammogram's is used if its sides differ by up to
            this share; one of the same proportions always is, resized.
        validation_fraction: share of the patients that are in no test table.
        seed: of the validation draw and of the tissue crops' places.
        workers: processes; None is one per core, 0 is this process.
        strict: stop at rows whose files are missing or unfit, instead of only listing them in `report.csv`.
        description: the data list's "name", "modality", "source" and "licence".

    Raises:
        InputError: if the tables or the folders are wrong, no crop can be made at all, or `strict` and any row fails.
    """
    start = time.monotonic()
    output = Path(output_dir)
    settings = CropSettings(crops, crop_size, context, crops_per_image, mask_tolerance, seed)
    split_by_patient([], validation_fraction)  # a wrong fraction is told of now, not after an hour's work
    rows = read_tables(csv_dir)
    for name in absent_test_tables(csv_dir):
        logger.warning("%s lacks %s: its patients cannot be kept out of training", csv_dir, name)
    check_settings(output, settings)
    index = scan_dicom(dicom_dir, output / STATE_DIR / "dicom_files.json")
    jobs, refusals = plan_jobs(rows, index, settings)
    _stop_if_strict(strict, [refusal.reason for refusal in refusals.values() if refusal.status == "error"])
    save_settings(output, settings)
    results = _cut(jobs, Path(dicom_dir), output, settings, workers)
    outcomes = _explain(rows, results, refusals, settings)
    write_report(output / "report.csv", [one.report for one in outcomes])
    errors = [one.report.reason for one in outcomes if one.report.status == "error"]
    _stop_if_strict(strict, errors)
    datalist = _datalist(rows, outcomes, validation_fraction, seed, description)
    if not any(datalist[split] for split in SPLITS):
        raise InputError(
            f"no crop could be made, {output / 'report.csv'} says why for each row; the first: {errors[0]}"
        )
    write_datalist(output / FILE_NAME, datalist)
    return _summary(output, outcomes, datalist, time.monotonic() - start)


def _cut(
    jobs: dict[str, ImageJob], dicom_dir: Path, output: Path, settings: CropSettings, workers: int | None
) -> dict[str, ImageCrops]:
    work = partial(cut_or_recall, dicom_dir=dicom_dir, output_dir=output, settings=settings)
    results: dict[str, ImageCrops] = {}
    for series, result in zip(jobs, run_jobs(list(jobs.values()), work, workers, "Cutting mammograms"), strict=True):
        if isinstance(result, InputError):
            raise result  # a file's own fault is in the result's problems, so this one stops every job
        results[series] = result
    return results


def _explain(
    rows: Sequence[LesionView], results: dict[str, ImageCrops], refusals: dict[str, Refusal], settings: CropSettings
) -> list[Outcome]:
    """One outcome for each row; rows in = crops out + rows explained."""
    labels = lesion_labels(rows)
    wants_lesion = settings.crops != "tissue"
    outcomes = [
        refused(row, refusals[row.source])
        if row.source in refusals
        else outcome(row, results[row.image_series], wants_lesion, tissue_names(row, settings), labels[row.lesion])
        for row in rows
    ]
    made = sum(len(set(crops.zooms)) for crops in results.values())
    told = {path for one in outcomes for path in one.report.outputs if path.startswith("images/")}
    assert len(outcomes) == len(rows), "every row of the tables has one outcome"
    assert len(told) == made, "every crop belongs to a row"
    assert all(one.report.reason for one in outcomes if one.report.status != "crop"), "every other row is explained"
    return outcomes


def _datalist(
    rows: Sequence[LesionView],
    outcomes: Sequence[Outcome],
    validation_fraction: float,
    seed: int,
    description: Mapping[str, str],
) -> dict[str, Any]:
    items: dict[str, dict[str, Item]] = {"training": {}, "test": {}}  # by path: rows share their mammogram's tissue
    for row, one in zip(rows, outcomes, strict=True):
        for item in [one.lesion, *one.tissue] if one.lesion else one.tissue:
            items[row.split][item["image"]] = item
    training, validation = split_by_patient(list(items["training"].values()), validation_fraction, seed, "pathology")
    splits = {"training": training, "validation": validation, "test": list(items["test"].values())}
    return {**description, "label_names": label_names(rows), **splits}


def _stop_if_strict(strict: bool, errors: Sequence[str]) -> None:
    if strict and errors:
        raise InputError(f"{len(errors)} rows have no crop and strict is set; the first: {errors[0]}")


def _summary(output: Path, outcomes: Sequence[Outcome], datalist: dict[str, Any], seconds: float) -> Summary:
    return Summary(
        output_dir=output,
        rows=len(outcomes),
        statuses=Counter(one.report.status for one in outcomes),
        kinds=Counter(one.kind for one in outcomes if one.kind),
        crops={split: len(datalist[split]) for split in SPLITS},
        patients={split: len({item["patient"] for item in datalist[split]}) for split in SPLITS},
        lesions=len({item["lesion"] for split in SPLITS for item in datalist[split]} - {None}),
        seconds=seconds,
    )
