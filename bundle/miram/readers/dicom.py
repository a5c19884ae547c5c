"""Single-frame gray DICOM images, through pydicom and its gdcm plugin."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import EllipsisType
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import JPEGExtended12Bit

from miram.errors import InputError
from miram.readers.dicom_display import find_padding, rescaled, windowed
from miram.readers.dicom_facts import adopt_groups, complete, identity, laterality, spacing, terms, view
from miram.readers.dicom_file import TRANSCODE, check_codestream, read_header, stored_values
from miram.readers.image import Image, check_intensity, check_size, gray_of_color, stretch, stretch_percentiles

WINDOWED = "window of the header"


def read_dicom(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a gray single-frame DICOM image.

    The modality rescale is applied to stored values, and then the first VOI LUT or window if there is one, since this
    is how the manufacturer intended the image to look; its output range becomes 0..65535. Without a window, unsigned
    values without rescale keep their levels (`BitsStored` bits become 16), and others are stretched between
    percentiles. MONOCHROME1 is inverted; bits beyond `BitsStored` (old overlays) are masked off. Padding
    (`PixelPaddingValue`) becomes 0, and does not count in percentiles. Optional elements that are empty count as
    absent; a rescale, window or padding value that cannot be used is ignored, and `remarks` say so.

    Args:
        max_pixels: a larger image is refused before it is decoded.
        intensity: "stored", as above, or "percentiles", which ignores windows.

    Returns:
        (H, W) pixels; `PixelSpacing`, otherwise `ImagerPixelSpacing`; laterality and view if they are known.

    Raises:
        InputError: if the file is not DICOM, truncated, multi-frame, colored, or cannot be decoded.
    """
    check_intensity(intensity)
    with quiet_pydicom():
        header = read_header(path, max_pixels)
        try:
            _check(path, header, max_pixels)
            return _image(path, header, intensity)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # codecs and damaged headers raise any kind of error, and quote header values
            raise InputError(f"{path} cannot be decoded ({type(error).__name__}); {_remedy(header)}") from None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning and logging: it quotes header values, including patient data."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before


def _check(path: str | os.PathLike[str], header: FileDataset, max_pixels: int) -> None:
    """Refuse anything but a complete, single-frame image in a known pixel format, before it is decoded."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise InputError(f"{path} holds no image (a DICOM file without Rows and Columns); remove it")
    complete(path, header)
    if header.NumberOfFrames > 1:
        raise InputError(
            f"{path} has {header.NumberOfFrames} frames (tomosynthesis or a series); multi-frame DICOM is not "
            "supported: give its synthesised 2D view, or convert it to NIfTI and prepare volumes"
        )
    check_size(path, (header.Rows, header.Columns), max_pixels)
    if "PixelData" not in header:
        raise InputError(f"{path} has no complete pixel data (no image, or truncated); copy or export it again")
    if header.SamplesPerPixel == 1 and header.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{path} is a color image, or does not say MONOCHROME1 or MONOCHROME2 (PhotometricInterpretation); "
            "give gray images"
        )
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise InputError(f"{path} stores {stored} of {allocated} bits; 8 and 16 bit are supported, convert it")
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        check_codestream(path, header)
    else:
        _check_length(path, header)


def _check_length(path: str | os.PathLike[str], header: FileDataset) -> None:
    expected = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
    if len(header.PixelData) < expected:
        raise InputError(
            f"{path} is truncated: {len(header.PixelData)} of {expected} bytes of pixel data; copy or export it again"
        )
    if len(header.PixelData) >= 2 * expected:  # more than padding
        raise InputError(
            f"{path} has {len(header.PixelData)} bytes of pixel data, more than the {expected} of its one image; "
            "export it again"
        )


def _image(path: str | os.PathLike[str], header: FileDataset, intensity: str) -> Image:
    adopt_groups(header)
    facts: dict[str, Any] = {"spacing": spacing(header), "laterality": laterality(header), "view": view(header)}
    facts |= {"patient": identity(header, "PatientID"), "study": identity(header, "StudyInstanceUID")}
    facts["header"] = terms(header)
    stored = stored_values(header)
    if stored.ndim == 3:
        pixels, scaling = _gray(path, stored)
        return Image(pixels, scaling=scaling, **facts)
    bits, high_bit = int(header.BitsStored), int(header.HighBit)
    patterns, levels = _bit_patterns(stored, bits, high_bit), _levels(header)
    padding, remarks = find_padding(stored, patterns, levels, header)
    image = ... if padding is None else ~padding
    pixels, scaling, left_out = _shown(path, levels, patterns, image, header, intensity)
    if padding is not None:
        pixels[padding] = 0
    beyond = _share_beyond(stored[image], bits, high_bit) if bits < 8 * stored.dtype.itemsize else 0.0
    facts["header"]["beyond_bits_stored"] = f"{beyond:.2%} of the pixels" if beyond else ""
    return Image(pixels, scaling=scaling, remarks=(*remarks, *left_out), **facts)


def _levels(header: FileDataset) -> np.ndarray:
    """The value of each pattern of the stored bits: at most 65,536 values."""
    levels = np.arange(2**header.BitsStored)
    return np.where(levels < len(levels) // 2, levels, levels - len(levels)) if header.PixelRepresentation else levels


def _shown(
    path: str | os.PathLike[str],
    levels: np.ndarray,
    patterns: np.ndarray,
    image: np.ndarray | EllipsisType,
    header: FileDataset,
    intensity: str,
) -> tuple[np.ndarray, str, list[str]]:
    """
    The pixels as they are meant to be seen, looked up in a table of all levels.

    Returns:
        (H, W) uint16, how the values were scaled, and which parts of the header were ignored.
    """
    values, remarks = rescaled(levels, header)
    shown = None
    if intensity == "stored":
        shown, left_out = windowed(values, header, patterns[image])
        remarks += left_out
    if shown is not None:
        pixels, scaling = np.take(stretch(shown, float(shown.min()), float(shown.max())), patterns), WINDOWED
    elif intensity == "stored" and not header.PixelRepresentation and np.array_equal(values, levels):
        pixels, scaling = np.take(stretch(levels, 0, len(levels) - 1), patterns), _name(header.BitsStored)
    else:
        pixels, scaling = stretch_percentiles(path, np.take(values, patterns), image)
    return (65535 - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels), scaling, remarks


def _gray(path: str | os.PathLike[str], stored: np.ndarray) -> tuple[np.ndarray, str]:
    if stored.shape[-1] != 3 or stored.dtype != np.uint8:
        raise InputError(f"{path} is a color image or has several frames; give gray images")
    return gray_of_color(path, stored).astype(np.uint16) * 257, "8 bit x 257, from RGB"


def _bit_patterns(stored: np.ndarray, bits: int, high_bit: int) -> np.ndarray:
    """The stored bits as unsigned numbers, without the bits above or below them."""
    unsigned = stored.view(f"u{stored.dtype.itemsize}")
    if bits == 8 * stored.dtype.itemsize:
        return unsigned
    return (unsigned >> max(high_bit + 1 - bits, 0)) & (2**bits - 1)


def _share_beyond(stored: np.ndarray, bits: int, high_bit: int) -> float:
    """The share of values with bits set outside the stored ones; a sign repeated in the bits above does not count."""
    above = stored >> (high_bit + 1) if high_bit + 1 < 8 * stored.dtype.itemsize else np.zeros_like(stored)
    below = stored & (2 ** max(high_bit + 1 - bits, 0) - 1)
    is_sign = above == -1 if stored.dtype.kind == "i" else False
    return float(np.mean(((above != 0) & ~np.asarray(is_sign)) | (below != 0))) if stored.size else 0.0


def _name(bits: int) -> str:
    return {8: "8 bit x 257", 16: "16 bit as stored"}.get(bits, f"{bits} bit x 65535/{2**bits - 1}")


def _remedy(header: FileDataset) -> str:
    if header.file_meta.get("TransferSyntaxUID") == JPEGExtended12Bit:
        return f"12-bit lossy JPEG has no free decoder here: {TRANSCODE}"
    return "it may be truncated or damaged: copy or export it again"
