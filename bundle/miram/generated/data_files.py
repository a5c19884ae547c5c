"""Writing the data set: DICOM files and the four tables as TCIA publishes them, with their quirks."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from scipy import ndimage

from miram.files import atomic_write, write_text
from miram.generated.films import Film, Row, Series, generated_uid, table_name
from miram.generated.mammogram import Mammogram
from miram.generated.patients import Kind


def film_paths(film: Film, dicom_dir: Path) -> list[Path]:
    """All files that :func:`write_film` writes; a film in both a mass and a calcification table is written twice."""
    paths = [path for row in film.rows for path in _row_paths(row, dicom_dir)]
    return list(dict.fromkeys(paths))


def write_film(film: Film, mammogram: Mammogram, dicom_dir: Path) -> None:
    """Write a film, its crops and its masks to `PatientID/StudyInstanceUID/SeriesInstanceUID/00000x.dcm`."""
    written: set[Path] = set()
    for row, mask in zip(film.rows, mammogram.masks, strict=True):
        image_path, crop_path, mask_path = _row_paths(row, dicom_dir)
        if image_path not in written:
            _write(image_path, mammogram.pixels, row.image, row, "full mammogram images")
            written.add(image_path)
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        _write(crop_path, mammogram.pixels[box], row.crop, row, "cropped images")
        # If both share a series, the header calls both cropped images: descriptions cannot be trusted.
        description = "cropped images" if row.mask == row.crop else "ROI mask images"
        _write(mask_path, _stored_mask(mask, row.mask_loss), row.mask, row, description)


def _row_paths(row: Row, dicom_dir: Path) -> tuple[Path, Path, Path]:
    return (
        dicom_dir / row.image.path / "000000.dcm",
        dicom_dir / row.crop.path / row.crop_file,
        dicom_dir / row.mask.path / row.mask_file,
    )


def _stored_mask(mask: np.ndarray, loss: float) -> np.ndarray:
    """The mask as 0 and 255; without the film's last rows and columns if `loss` is not 0."""
    rows, columns = (size - int(np.ceil(loss * size)) for size in mask.shape)
    return mask[:rows, :columns].astype(np.uint8) * np.uint8(255)


def _write(path: Path, pixels: np.ndarray, series: Series, row: Row, description: str) -> None:
    dataset = _header(series, row, description, UID(generated_uid(f"{series.series}/{path.name}")))
    dataset.set_pixel_data(pixels, "MONOCHROME2", 8 * pixels.itemsize, generate_instance_uid=False)
    with atomic_write(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _header(series: Series, row: Row, description: str, instance: UID) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, instance
    dataset.Modality, dataset.ConversionType = "MG", "WSD"
    dataset.SeriesDescription = description
    dataset.PatientName = dataset.PatientID = series.patient_id  # a pseudonym, as in CBIS-DDSM
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.BodyPartExamined = "BREAST"
    dataset.PatientOrientation = row.view
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series.study, series.series
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.Laterality = row.side[0]
    return dataset


def write_tables(csv_dir: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write the mass and calcification tables of training and test."""
    for kind, split in product(("mass", "calc"), ("train", "test")):
        chosen = [row for row in rows if (row.finding.kind, row.finding.split) == (kind, split)]
        text = io.StringIO()
        writer = csv.DictWriter(text, _columns(kind), lineterminator="\r\n")  # type: ignore[arg-type]
        writer.writeheader()
        writer.writerows(table_record(row) for row in chosen)
        write_text(Path(csv_dir) / table_name(kind, split), text.getvalue())  # type: ignore[arg-type]


def table_record(row: Row) -> dict[str, str | int]:
    """One row by column name; mask paths of masses and crop paths of calcifications end with a newline."""
    mass = row.finding.kind == "mass"
    values = (
        row.patient,
        row.density,
        row.side,
        row.view,
        row.finding.number,
        "mass" if mass else "calcification",
        "-".join(row.shape),
        "-".join(row.margin),
        row.finding.assessment,
        row.finding.pathology,
        row.subtlety,
        _path(row.image, "000000.dcm"),
        _path(row.crop, row.crop_name) + ("" if mass else "\n"),
        _path(row.mask, row.mask_name) + ("\n" if mass else ""),
    )
    return dict(zip(_columns(row.finding.kind), values, strict=True))


def _columns(kind: Kind) -> list[str]:
    mass = kind == "mass"
    return [
        "patient_id",
        "breast_density" if mass else "breast density",
        "left or right breast",
        "image view",
        "abnormality id",
        "abnormality type",
        "mass shape" if mass else "calc type",
        "mass margins" if mass else "calc distribution",
        "assessment",
        "pathology",
        "subtlety",
        "image file path",
        "cropped image file path",
        "ROI mask file path",
    ]


def _path(series: Series, name: str) -> str:
    return f"{series.folder}/{series.study}/{series.series}/{name}"
