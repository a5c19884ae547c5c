"""Image files for tests: a smooth picture and DICOM files in every encoding that can be written here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    generate_uid,
)
from scipy import ndimage


def picture(bits: int = 16, shape: tuple[int, ...] = (96, 80), seed: int = 0) -> np.ndarray:
    """Smooth noise that uses all levels of `bits` bits, uint8 or uint16."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    values = (values - values.min()) / np.ptp(values) * (2**bits - 1)
    return np.rint(values).astype(np.uint8 if bits <= 8 else np.uint16)


def gray(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise, 16 bit."""
    return np.random.default_rng(seed).integers(0, 65535, shape).astype(np.uint16)


def boxed(shape: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """A mask, 255 from row `box[0]` to before `box[1]` and from column `box[2]` to before `box[3]`."""
    mask = np.zeros(shape, np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


def dataset(stored: np.ndarray, bits: int | None = None, **elements: Any) -> pydicom.Dataset:
    """A mammogram as a data set, uncompressed; `elements` are added or replaced, None leaves one out."""
    allocated = stored.dtype.itemsize * 8
    result = pydicom.Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.SOPClassUID, result.SOPInstanceUID = DigitalMammographyXRayImageStorageForPresentation, generate_uid()
    result.PatientID, result.PatientName = "SECRET-17", "Doe^Jane"
    result.Rows, result.Columns = stored.shape[:2]
    result.SamplesPerPixel = 1 if stored.ndim == 2 else stored.shape[2]
    result.PhotometricInterpretation = "MONOCHROME2" if stored.ndim == 2 else "RGB"
    if stored.ndim == 3:
        result.PlanarConfiguration = 0
    result.BitsAllocated, result.BitsStored = allocated, bits or allocated
    result.HighBit, result.PixelRepresentation = result.BitsStored - 1, int(stored.dtype.kind == "i")
    result.PixelData = stored.tobytes()
    result["PixelData"].VR = "OW" if allocated == 16 else "OB"
    for name, value in elements.items():
        if value is None:
            delattr(result, name)
        else:
            setattr(result, name, value)
    return result


def save(path: Path, result: pydicom.Dataset) -> Path:
    """Write a data set in the transfer syntax that it names."""
    result.save_as(path, enforce_file_format=True)
    return path


def write_dicom(path: Path, stored: np.ndarray, bits: int | None = None, **elements: Any) -> Path:
    """:func:`dataset` and :func:`save` at once."""
    return save(path, dataset(stored, bits, **elements))


def write_jpeg_baseline(path: Path, stored: np.ndarray) -> Path:
    """A lossy 8-bit JPEG in DICOM."""
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, format="JPEG", quality=95)
    result = dataset(stored)
    result.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    result.PixelData = encapsulate([stream.getvalue()])
    result["PixelData"].is_undefined_length = True
    return save(path, result)


def write_jpeg_lossless(path: Path, stored: np.ndarray, bits: int) -> Path:
    """A lossless JPEG in DICOM, its codestream made here: prediction from the left (ITU-T T.81, annex H)."""
    result = dataset(stored, bits)
    result.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    result.PixelData = encapsulate([_lossless_codestream(stored, bits)])
    result["PixelData"].is_undefined_length = True
    return save(path, result)


def _lossless_codestream(stored: np.ndarray, bits: int) -> bytes:
    """SOI, SOF3, one Huffman table in which each of the 17 categories has a code of 5 bits, SOS, data, EOI."""
    height, width = stored.shape
    frame = bytes([bits, *divmod(height, 256), *divmod(width, 256), 1, 1, 0x11, 0])
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    scan = bytes([1, 1, 0, 1, 0, 0])
    segments = b"".join(
        bytes([0xFF, marker, *divmod(len(body) + 2, 256)]) + body
        for marker, body in ((0xC3, frame), (0xC4, table), (0xDA, scan))
    )
    code = "".join(_code(int(value)) for value in _differences(stored.astype(int), bits).ravel())
    code += "1" * (-len(code) % 8)
    data = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + segments + data + b"\xff\xd9"


def _differences(values: np.ndarray, bits: int) -> np.ndarray:
    """To the left neighbour; in the first column to the one above, and of the first pixel to the middle level."""
    predicted = np.roll(values, 1, axis=1)
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 2 ** (bits - 1)
    return (values - predicted + 32768) % 65536 - 32768


def _code(difference: int) -> str:
    """The category's code and the bits that tell the difference within it."""
    category = abs(difference).bit_length()
    low = difference if difference > 0 else difference + 2**category - 1
    return f"{category:05b}" + (f"{low:0{category}b}" if 0 < category < 16 else "")
