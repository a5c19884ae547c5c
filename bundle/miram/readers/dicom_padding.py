"""Pixels that are not part of the image: padding, found by its stored values (DICOM PS3.3, C.7.5.1.1.2)."""

from __future__ import annotations

from math import isfinite

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from scipy import ndimage

from miram.readers.dicom_display import LEFT_OUT
from miram.readers.dicom_tags import numbers, text

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000)


def find_padding(
    stored: np.ndarray, patterns: np.ndarray, levels: np.ndarray, header: FileDataset
) -> tuple[np.ndarray | None, list[str]]:
    """
    Find the pixels with PixelPaddingValue, or in the range up to PixelPaddingRangeLimit.

    Args:
        stored: (H, W), all allocated bits.
        patterns: (H, W), the stored bits alone, indices into `levels`.
        levels: the value of each pattern.
        header: of the image.

    Returns:
        (H, W) bool, None if there is no padding; and remarks about what was ignored in the header.
    """
    first, last = numbers(header, "PixelPaddingValue")[:1], numbers(header, "PixelPaddingRangeLimit")[:1]
    remarks = [LEFT_OUT.format(name) for name, value in _named(first, last) if value and not isfinite(value[0])]
    if not first or not isfinite(first[0]):
        return None, remarks
    ends = [value for value in (*first, *last) if isfinite(value)]
    low, high = (_as_stored(int(value), stored.dtype) for value in (min(ends), max(ends)))
    low, high = min(low, high), max(low, high)
    padding = ((levels >= low) & (levels <= high))[patterns]
    if int(header.HighBit) == int(header.BitsStored) - 1:  # padding may need more bits than are stored
        padding |= (stored >= low) & (stored <= high)
    if _is_lossy(header):
        padding = _with_blurred(padding, np.maximum(low - levels, levels - high)[patterns], len(levels))
    if padding.all():
        return None, [*remarks, "all pixels would be padding by the header's PixelPaddingValue, which is ignored"]
    return (padding if padding.any() else None), remarks


def _named(first: list[float], last: list[float]) -> tuple[tuple[str, list[float]], ...]:
    return ("PixelPaddingValue", first), ("PixelPaddingRangeLimit", last)


def _as_stored(value: int, dtype: np.dtype) -> int:
    """A value in the pixels' type: some devices write signed padding as an unsigned number, or the other way round."""
    bits = 8 * dtype.itemsize
    value &= 2**bits - 1
    return value - 2**bits if dtype.kind == "i" and value >= 2 ** (bits - 1) else value


def _is_lossy(header: FileDataset) -> bool:
    return header.file_meta.TransferSyntaxUID in LOSSY or text(header, "LossyImageCompression") == "01"


def _with_blurred(padding: np.ndarray, distance: np.ndarray, levels: int) -> np.ndarray:
    """
    The padding, extended by pixels that lossy compression has moved away from the padding value.

    These differ by at most 1/64 of the range and are connected to pixels of the exact value, or differ by at most 1/128
    and are connected to the image's edge. So a bright spot inside the breast is not taken for padding.
    """
    edge = np.zeros_like(padding)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    regions, _ = ndimage.label(padding | (distance <= levels / 64))
    kept = np.zeros(regions.max() + 1, bool)
    kept[regions[padding | (edge & (distance <= levels / 128))]] = True
    return kept[regions]
