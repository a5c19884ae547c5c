"""What a reader returns, and how stored values become the 0..65535 of a crop."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import BinaryIO

import numpy as np

from miram.errors import InputError

INTENSITIES = ("stored", "percentiles")


@dataclass(frozen=True)
class Image:
    """One image, of any format."""

    # uint16, (H, W), or (H, W, D) for a volume, whose axes are the patient's left to right, back to front and feet to
    # head (RAS); 0..65535, high = bright
    pixels: np.ndarray
    spacing: tuple[float, ...] | None = None  # mm per pixel along each axis of `pixels`, if the header has it
    laterality: str | None = None  # "LEFT" or "RIGHT", from a DICOM header
    view: str | None = None  # "CC", "MLO" or another DICOM view position
    scaling: str = ""  # how the stored values became 0..65535
    # the DICOM PatientID. It only keeps a patient's images together and is never written anywhere.
    patient: str | None = field(default=None, repr=False)
    study: str | None = field(default=None, repr=False)  # the DICOM StudyInstanceUID, used the same way
    # facts in a DICOM header that may mislead training, see :data:`miram.readers.dicom_facts.NOTICES`
    header: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what in the header could not be used and was ignored


def check_size(path: str | os.PathLike[str], shape: Sequence[int], max_pixels: int) -> None:
    """Raise an InputError, before memory is allocated, if an image is empty or larger than `max_pixels`."""
    count = math.prod(int(length) for length in shape)
    if count < 1:
        raise InputError(f"{path} is an image of no pixels ({'x'.join(map(str, shape))}); remove it")
    if count > max_pixels:
        size = "x".join(map(str, shape))
        raise InputError(f"{path} claims {size} pixels, more than max_pixels={max_pixels}; raise it if that is right")


def check_content(path: str | os.PathLike[str], shape: Sequence[int], pixels_per_byte: float) -> None:
    """Raise an InputError, before memory is allocated, if a file claims more pixels than its length can hold."""
    size = Path(path).stat().st_size
    if math.prod(int(length) for length in shape) > pixels_per_byte * size:
        raise InputError(
            f"{path} is truncated: it claims {'x'.join(map(str, shape))} pixels, which {size} bytes cannot hold; copy "
            "or export it again"
        )


def inflated_size(stream: BinaryIO, limit: int, wbits: int = zlib.MAX_WBITS) -> int:
    """
    The size of deflated data when inflated, counted in small pieces and only until slightly above `limit`.

    Args:
        stream: positioned at the start of the data; it may continue after their end.
        limit: in bytes.
        wbits: of zlib, which says whether there is a header.

    Raises:
        zlib.error: if the data are damaged, or end before their checksum.
    """
    decoder, size = zlib.decompressobj(wbits), 0
    while size <= limit and not decoder.eof:
        packed = decoder.unconsumed_tail or stream.read(2**16)
        if not packed:
            raise zlib.error("incomplete data")
        size += len(decoder.decompress(packed, 2**20))
    return size


def to_uint16(path: str | os.PathLike[str], values: np.ndarray, intensity: str = "stored") -> tuple[np.ndarray, str]:
    """
    Convert stored values to 0..65535.

    Unsigned 8 and 16 bit have a known range and keep their levels. Other types do not: they are stretched between the
    image's percentiles 0.5 and 99.5, as all types are with `intensity="percentiles"`.

    Args:
        values: any shape; bool, integer or float.
        intensity: "stored" or "percentiles".

    Returns:
        uint16 values, and how they were scaled.

    Raises:
        InputError: if `values` are complex or not finite.
    """
    check_intensity(intensity)
    if values.dtype.kind not in "buif":
        raise InputError(f"{path} holds values of type {values.dtype}, which are not gray levels; convert it")
    if intensity == "stored" and values.dtype == bool:
        return values.astype(np.uint16) * 65535, "1 bit x 65535"
    if intensity == "stored" and values.dtype == np.uint8:
        return values.astype(np.uint16) * 257, "8 bit x 257"
    if intensity == "stored" and values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return values.astype(np.uint16), "16 bit as stored"
    return stretch_percentiles(path, values)


def stretch_percentiles(
    path: str | os.PathLike[str],
    values: np.ndarray,
    counted: np.ndarray | EllipsisType = ...,
    lower: float = 0.5,
    upper: float = 99.5,
) -> tuple[np.ndarray, str]:
    """
    Stretch values between two of their percentiles to 0..65535, and clip the rest.

    If both percentiles are the same value (nearly all of the image is background), the extremes replace them.

    Args:
        values: any shape.
        counted: bool, the values from which percentiles are computed, at least one; all by default.
        lower: percentile that becomes 0.
        upper: percentile that becomes 65535.

    Returns:
        uint16 values, and the limits between which they were stretched.

    Raises:
        InputError: if `values` hold a value that is not finite.
    """
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not finite (NaN or infinity); replace them")
    low, high = np.percentile(values[counted], [lower, upper])
    name = f"percentiles {lower:g}-{upper:g}"
    if low == high:
        low, high, name = values[counted].min(), values[counted].max(), "extremes"
    return stretch(values, float(low), float(high)), name


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low`..`high` linearly to 0..65535 (uint16), with clipping; all zeros if `low` equals `high`."""
    span = high - low
    unit = np.subtract(values, low, dtype=np.float64) / (span if span > 0 else 1.0)
    return np.rint(unit.clip(0, 1) * 65535).astype(np.uint16)


def check_intensity(intensity: str) -> None:
    """Raise an InputError for an unknown intensity scaling."""
    if intensity not in INTENSITIES:
        raise InputError(f"intensity {intensity!r} is not one of {', '.join(INTENSITIES)}")


@contextmanager
def naming_damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """
    Name the file in whatever a library raises for it: for a damaged file that is any kind of error.

    Raises:
        InputError: in place of any error but a `MemoryError`.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({reason(error)}); it may be truncated or damaged, copy it again"
        ) from error


def reason(error: Exception) -> str:
    """A decoder's error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def gray_of_color(
    path: str | os.PathLike[str], channels: np.ndarray, tolerance: int = 16, colored_share: float = 0.001
) -> np.ndarray:
    """
    Recover a gray image that was stored as color, with nearly equal channels.

    JPEG rounds chroma: a gray image that was saved as RGB comes back with channels up to a few of 255 levels apart.
    Scanner tints and color photographs differ by tens. So at most one pixel in 1,000 may differ by more than 16 levels.

    Args:
        channels: (H, W, 3), unsigned integers.
        tolerance: the largest difference of two channels of a gray pixel, in 255ths of the range.
        colored_share: share of pixels that may differ more.

    Returns:
        (H, W): the middle channel of each pixel, in the given dtype.

    Raises:
        InputError: if the image is truly colored.
    """
    low, high = channels.min(axis=-1), channels.max(axis=-1)
    limit = tolerance * (np.iinfo(channels.dtype).max // 255)
    share = float(np.mean(high - low > limit))
    if share > colored_share:
        raise InputError(f"{path} is a color image ({share:.1%} of its pixels are colored); give gray images")
    # The median of three, without sorting.
    return np.maximum(low, np.minimum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2]))


def drop_alpha(path: str | os.PathLike[str], channels: np.ndarray) -> np.ndarray:
    """
    Drop an opaque alpha channel, the last one of (H, W, 2) or (H, W, 4).

    Raises:
        InputError: if some of the image is transparent, so that its gray level is undefined.
    """
    if channels[..., -1].min() != np.iinfo(channels.dtype).max:
        raise InputError(f"{path} is partly transparent; flatten it onto a background")
    return channels[..., :-1]
