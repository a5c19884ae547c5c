"""Any supported image file to 16-bit gray pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from miram.errors import InputError
from miram.readers.dicom import read_dicom
from miram.readers.image import Image
from miram.readers.raster import read_pillow, read_tiff
from miram.readers.volumes import read_itk, read_nifti

__all__ = ["Image", "format_names", "is_image_file", "read_image", "without_suffix"]

Reader = Callable[[str | os.PathLike[str], int, str], Image]

READERS: dict[str, Reader] = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), read_dicom),
    ".png": read_pillow,
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    **dict.fromkeys((".jpg", ".jpeg"), read_pillow),
    **dict.fromkeys((".nii", ".nii.gz"), read_nifti),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), read_itk),
}

# Names of formats that differ from their suffixes: messages, configs and docs list the formats as `format_names` does.
NAMES = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "DICOM"),
    **{".tif": "TIFF", ".jpg": "JPEG", ".nii": "NIfTI", ".nii.gz": "NIfTI", ".mhd": "MHA", ".nhdr": "NRRD"},
}


def format_names(last: str = ", ") -> str:
    """The names of the supported formats; `last` joins the last one, such as " or "."""
    *names, final = dict.fromkeys(NAMES.get(suffix, suffix[1:].upper()) for suffix in READERS)
    return ", ".join(names) + last + final


def read_image(path: str | os.PathLike[str], max_pixels: int = 400_000_000, intensity: str = "stored") -> Image:
    """
    Read an image by its suffix; a file with another suffix or none is read as DICOM if it begins like DICOM.

    Args:
        path: in a format of `READERS`.
        max_pixels: a larger image is refused by its header, before memory is allocated.
        intensity: "stored" keeps the levels of unsigned 8 and 16 bit and applies a DICOM window; "percentiles"
            stretches every image between its percentiles 0.5 and 99.5.

    Returns:
        the image as 0..65535, high = bright.

    Raises:
        InputError: if the file is missing, empty, damaged, in an unsupported format, colored, too large, or not
            permitted to be read.
    """
    path = Path(path)
    try:
        return _find_reader(path)(path, max_pixels, intensity)
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is; lower max_pixels={max_pixels}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image: it has a known suffix, or begins like DICOM (but is not a DICOMDIR)."""
    path = Path(path)
    if path.name.upper() == "DICOMDIR":
        return False
    return _suffix(path) in READERS or _may_be_dicom(path)


def without_suffix(path: str | os.PathLike[str]) -> Path:
    """A path without the suffix of a supported format (all of `.nii.gz`); other dots are part of the name."""
    path, suffix = Path(path), _suffix(Path(path))
    return path.with_name(path.name[: -len(suffix)]) if suffix in READERS and path.name.lower() != suffix else path


def _find_reader(path: Path) -> Reader:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again")
    reader = READERS.get(_suffix(path)) or (read_dicom if _has_preamble(path) else None)
    if reader is None:
        raise InputError(f"{path} is in no supported format; give {format_names(' or ')}")
    return reader


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def _has_preamble(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _may_be_dicom(path: Path) -> bool:
    try:
        return _has_preamble(path)
    except OSError:
        return True  # not permitted to be read: reading it will report that
