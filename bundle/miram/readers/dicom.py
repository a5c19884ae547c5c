"""Single-frame gray DICOM images, through pydicom and its gdcm plugin."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import JPEGExtended12Bit, RLELossless

from miram.errors import InputError
from miram.readers.codestreams import check_codestream, check_inflated
from miram.readers.image import Image, check_intensity, check_size, gray_of_color, stretch, stretch_percentiles
from miram.readers.pydicom_versions import apply_modality_lut, apply_voi_lut, stored_values

# All that is read of a header: names, dates and the like never enter memory.
TAGS = (
    *("TransferSyntaxUID", "SOPClassUID", "PatientID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter"),
    *("WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImageLaterality", "Laterality", "ViewPosition", "ViewCodeSequence"),
)
# SNOMED CT and the older SNOMED RT codes of the two screening views (DICOM PS3.16, CID 4014).
VIEW_CODES = {"399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO"}
# Defined terms of ViewPosition: mammography's (CID 4014) and those of projection radiography (PS3.3, C.8.7.1.1).
VIEWS = {
    *("CC", "MLO", "ML", "LM", "LMO", "FB", "SIO", "ISO", "XCC", "XCCL", "XCCM", "XCCCL", "CV", "AT", "RL", "RM"),
    *("AP", "PA", "LL", "RLD", "LLD", "RLO", "LLO"),
}
SIDES = {"L": "LEFT", "R": "RIGHT"}


def read_dicom(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a gray single-frame DICOM image.

    Stored values go through the modality rescale and, where there is one, the first VOI LUT or window, since that is
    what its maker meant to be seen; its output range becomes 0..65535. Without a window, unsigned values without
    rescale keep their levels (`BitsStored` bits become 16), others are stretched between percentiles. MONOCHROME1 is
    inverted; bits beyond `BitsStored` (old overlays) are masked off.

    Args:
        path: the file.
        max_pixels: a larger image is refused before it is decoded.
        intensity: "stored", as above, or "percentiles", which ignores windows.

    Returns:
        (H, W) pixels; `PixelSpacing`, else `ImagerPixelSpacing`; laterality and view where they are known.

    Raises:
        InputError: if the file is no DICOM, truncated, multi-frame, colored, or cannot be decoded.
    """
    check_intensity(intensity)
    with quiet_pydicom():
        header = _read_header(path, max_pixels)
        try:
            _check(path, header, max_pixels)
            pixels, scaling = _shown(path, _decode(header), header, intensity)
            spacing, side, view = _spacing(header), _laterality(header), _view(header)
            patient = str(header.get("PatientID") or "").strip() or None
        except (InputError, MemoryError):
            raise
        except Exception as error:  # Codecs and damaged headers raise whatever they like, and quote header values.
            raise InputError(f"{path} cannot be decoded ({type(error).__name__}); {_remedy(header)}") from None
    return Image(pixels, spacing, side, view, scaling, patient)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning and logging: it quotes header values, also a patient's."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before


def _read_header(path: str | os.PathLike[str], max_pixels: int) -> FileDataset:
    """The tags that are needed, pixel data included, still encoded."""
    try:
        check_inflated(path, 4 * max_pixels + 2**26)  # at most three bytes a pixel, and what else is in the header
        return pydicom.dcmread(path, specific_tags=list(TAGS))
    except (InputError, MemoryError):
        raise
    except InvalidDicomError:
        raise InputError(f"{path} is no DICOM file; remove it or export it again") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
            raise
        raise InputError(
            f"{path} is no readable DICOM file ({type(error).__name__}); copy or export it again"
        ) from None


def _check(path: str | os.PathLike[str], header: FileDataset, max_pixels: int) -> None:
    """Refuse what is no complete, single-frame image of a known pixel format, before anything is decoded."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise InputError(f"{path} holds no image (a DICOM file without Rows and Columns); remove it")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(
            f"{path} has {frames} frames (tomosynthesis or a series); multi-frame DICOM is not supported: "
            "give its synthesised 2D view, or convert it to NIfTI and prepare volumes"
        )
    check_size(path, (header.Rows, header.Columns), max_pixels)
    if "PixelData" not in header:
        raise InputError(f"{path} has no complete pixel data (no image, or truncated); copy or export it again")
    if header.PhotometricInterpretation == "PALETTE COLOR":
        raise InputError(f"{path} is a color image (PALETTE COLOR); give gray images")
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise InputError(f"{path} stores {stored} of {allocated} bits; 8 and 16 bit are supported, convert it")
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        check_codestream(path, header)
    else:
        _check_length(path, header)


def _check_length(path: str | os.PathLike[str], header: FileDataset) -> None:
    samples = int(header.get("SamplesPerPixel") or 1)
    expected = header.Rows * header.Columns * samples * header.BitsAllocated // 8
    if len(header.PixelData) < expected:
        raise InputError(
            f"{path} is truncated: {len(header.PixelData)} of {expected} bytes of pixel data; copy or export it again"
        )
    if len(header.PixelData) >= 2 * expected:  # more than padding
        raise InputError(
            f"{path} has {len(header.PixelData)} bytes of pixel data, more than the {expected} of its one image; "
            "export it again"
        )


def _decode(header: FileDataset) -> np.ndarray:
    """Stored values, (H, W) or (H, W, samples), by one named decoder, whatever others are installed."""
    syntax = header.file_meta.TransferSyntaxUID
    plugin = "pydicom" if syntax == RLELossless else "gdcm"
    # pydicom's own masking takes the stored bits to be the lowest; ours asks HighBit.
    values = stored_values(header, plugin if syntax.is_encapsulated else "")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _shown(path: str | os.PathLike[str], stored: np.ndarray, header: Dataset, intensity: str) -> tuple[np.ndarray, str]:
    """The values as they are meant to be seen, through a table of all values that can be stored: 65,536 at most."""
    if stored.ndim == 3:
        return _gray(path, stored, header)
    bits = int(header.BitsStored)
    patterns = _bit_patterns(stored, bits, int(header.get("HighBit", bits - 1)))
    levels = np.arange(2**bits)
    signed = bool(header.get("PixelRepresentation", 0))
    if signed:
        levels = np.where(levels < 2 ** (bits - 1), levels, levels - 2**bits)
    values = apply_modality_lut(levels, header)
    windowed = intensity == "stored" and _has_window(header)
    if windowed:
        values = _windowed(path, values, header)
    if windowed or (intensity == "stored" and not signed and np.array_equal(values, levels)):
        table = stretch(values, float(values.min()), float(values.max()))
        pixels, scaling = np.take(table, patterns), _name(bits, windowed)
    else:
        pixels, scaling = stretch_percentiles(path, np.take(values, patterns))
    return (65535 - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels), scaling


def _windowed(path: str | os.PathLike[str], values: np.ndarray, header: Dataset) -> np.ndarray:
    """The values through the header's lookup table or window."""
    try:
        # pydicom looks up integers only, while a rescale gives floats.
        return apply_voi_lut(np.rint(values).astype(int) if header.get("VOILUTSequence") else values, header)
    except Exception:
        raise InputError(
            f"{path} has a Window Width or a VOI LUT that cannot be applied; --intensity percentiles leaves it aside"
        ) from None


def _gray(path: str | os.PathLike[str], stored: np.ndarray, header: Dataset) -> tuple[np.ndarray, str]:
    if stored.shape[-1] != 3 or stored.dtype != np.uint8:
        raise InputError(f"{path} is a color image or has several frames; give gray images")
    return gray_of_color(path, stored).astype(np.uint16) * 257, "8 bit x 257, from RGB"


def _bit_patterns(stored: np.ndarray, bits: int, high_bit: int) -> np.ndarray:
    """The stored bits as unsigned numbers, without what lies above or below them."""
    unsigned = stored.view(f"u{stored.dtype.itemsize}")
    if bits == 8 * stored.dtype.itemsize:
        return unsigned
    return (unsigned >> max(high_bit + 1 - bits, 0)) & (2**bits - 1)


def _has_window(header: Dataset) -> bool:
    window = header.get("WindowWidth") is not None and header.get("WindowCenter") is not None
    return bool(header.get("VOILUTSequence")) or window


def _name(bits: int, windowed: bool) -> str:
    if windowed:
        return "window of the header"
    return {8: "8 bit x 257", 16: "16 bit as stored"}.get(bits, f"{bits} bit x 65535/{2**bits - 1}")


def _spacing(header: Dataset) -> tuple[float, ...] | None:
    values = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    spacing = tuple(float(value) for value in values) if values else ()
    return spacing if len(spacing) == 2 and min(spacing) > 0 else None


def _laterality(header: Dataset) -> str | None:
    return SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or "").strip().upper())


def _view(header: Dataset) -> str | None:
    position = str(header.get("ViewPosition") or "").strip().upper()
    codes = [VIEW_CODES.get(str(item.get("CodeValue"))) for item in header.get("ViewCodeSequence") or []]
    # Only known terms: whatever else a header holds in this place is not copied into the data list.
    return position if position in VIEWS else next((code for code in codes if code), None)


def _remedy(header: FileDataset) -> str:
    if header.file_meta.get("TransferSyntaxUID") == JPEGExtended12Bit:
        return "12-bit lossy JPEG has no free decoder here: export it uncompressed, or as JPEG 2000"
    return "it may be truncated or damaged: copy or export it again"
