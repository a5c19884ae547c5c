"""What every prepare step writes: 16-bit crops without metadata, and `report.csv`."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image, UnidentifiedImageError

from miram.errors import InputError
from miram.files import as_text, atomic_write

STATUSES = ("crop", "skipped", "error")
GENERATED_MARKER = "generated.json"  # beside what :mod:`miram.generated` wrote


@dataclass(frozen=True)
class ReportRow:
    """What became of one source, a row of `report.csv`."""

    source: str  # the file, or the table and row, as the user knows it
    status: str  # "crop" (something was written), "skipped" (left out on purpose) or "error" (could not be read)
    reason: str = ""  # why it was skipped or failed, or a remark on the crop
    outputs: tuple[str, ...] = ()  # the files written, relative to the prepared folder
    patient: str = ""  # the patient in the data list
    scaling: str = ""  # how the stored values became 0..65535 (:class:`miram.readers.formats.Image`)
    # what a DICOM header says that may mislead a training, more columns
    header: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {STATUSES}")


def write_report(path: str | os.PathLike[str], rows: Sequence[ReportRow]) -> None:
    """Write `report.csv`: a header and one line per row, several outputs joined by `;`; no column that no row has."""
    columns = [field.name for field in fields(ReportRow) if field.name != "header"]
    columns += dict.fromkeys(name for row in rows for name in row.header)
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for row in rows:
            cells = asdict(row) | {"outputs": ";".join(row.outputs)} | dict(row.header)
            writer.writerow({name: as_text(cells.get(name, "")) for name in columns})


def write_png16(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """
    Write a gray 16-bit PNG with no metadata, whole or not at all.

    Args:
        array: (H, W), uint16.

    Raises:
        ValueError: if `array` is not a two-dimensional uint16 array.
    """
    if array.ndim != 2 or array.dtype != np.uint16:
        raise ValueError(f"a 16-bit PNG holds (H, W) uint16, not {array.shape} {array.dtype}")
    with atomic_write(path) as temporary:
        # Level 1: mammographic noise does not compress better at higher levels, only slower.
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, format="PNG", compress_level=1)


def read_png16(path: str | os.PathLike[str]) -> np.ndarray:
    """
    Read what :func:`write_png16` wrote.

    Returns:
        (H, W), uint16.

    Raises:
        InputError: if the file is missing, damaged, or not a gray 16-bit PNG.
    """
    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in ("I;16", "I"):
                raise InputError(f"{path} is not a gray 16-bit PNG; prepare the folder again")
            return np.asarray(image).astype(np.uint16, copy=False)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as a PNG ({error}); delete it and prepare the folder again") from error


def write_volume(path: str | os.PathLike[str], array: np.ndarray, spacing: Sequence[float] | None) -> None:
    """
    Write a NIfTI volume with nothing but its voxels and their size, whole or not at all.

    Args:
        array: (H, W, D), uint16, in the closest canonical (RAS) orientation.
        spacing: mm per voxel along each axis; None is written as 1.

    Raises:
        ValueError: if `array` is not a three-dimensional uint16 array.
    """
    if array.ndim != 3 or array.dtype != np.uint16:
        raise ValueError(f"a volume is (H, W, D) uint16, not {array.shape} {array.dtype}")
    affine = np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0])
    with atomic_write(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(array, affine), temporary)


def is_generated(*folders: str | Path) -> bool:
    """
    Whether any of these folders was written by :mod:`miram.generated`, which leaves a marker in the folder above.

    Args:
        folders: of DICOM files or tables; a linked one is looked up at the link and where it leads.
    """
    places = [place for folder in folders for place in (Path(folder).absolute(), Path(folder).resolve())]
    return any((near / GENERATED_MARKER).is_file() for place in places for near in (place, place.parent))
