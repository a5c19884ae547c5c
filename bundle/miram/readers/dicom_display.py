"""From stored values to those that are meant to be seen: padding, rescale, tables and windows that can be used."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, nan

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from scipy import ndimage

from miram.readers.dicom_facts import items, numbers, text
from miram.readers.dicom_file import IS_VERSION_2

if IS_VERSION_2:
    from pydicom.pixel_data_handlers.util import apply_modality_lut, apply_voi_lut
else:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000)
LEFT_OUT = "{} of the header cannot be used and is ignored"


def rescaled(levels: np.ndarray, header: Dataset) -> tuple[np.ndarray, list[str]]:
    """
    Apply the modality LUT or rescale.

    Returns:
        the values, and remarks about what was ignored.
    """
    remarks = []
    if items(header, "ModalityLUTSequence"):
        try:
            return apply_modality_lut(levels, header), []
        except Exception:  # pydicom raises many kinds for a damaged table
            remarks.append(LEFT_OUT.format("ModalityLUTSequence"))
    slope, intercept = numbers(header, "RescaleSlope")[:1], numbers(header, "RescaleIntercept")[:1]
    if not slope and not intercept:
        return levels, remarks
    factor, offset = (*slope, 1.0)[0], (*intercept, 0.0)[0]
    if not isfinite(factor * offset) or factor == 0:
        return levels, [*remarks, LEFT_OUT.format("RescaleSlope or RescaleIntercept")]
    return levels * factor + offset, remarks


def windowed(values: np.ndarray, header: Dataset, patterns: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """
    Apply the first VOI LUT or, if none can be used, the first window.

    Args:
        values: of each level that can be stored, after :func:`rescaled`.
        header: its windows are removed.
        patterns: the levels of the image's pixels, as indices into `values`.

    Returns:
        the values as they are meant to be seen, None without a table or window; and remarks about what was ignored,
        including a window that makes all pixels of the image look the same.
    """
    remarks: list[str] = []
    window, table = _window(header), _table(header)
    for name, apply in (("VOILUTSequence", table), ("window", window)):
        try:
            shown = apply(values) if apply else None
        except Exception:  # pydicom raises many kinds of errors for what it cannot apply
            shown = np.full(len(values), np.nan)
        if shown is None:
            continue
        if np.isfinite(shown).all() and _tells_apart(shown, patterns):
            return shown, remarks
        remarks.append(LEFT_OUT.format(name))
    return None, remarks


def _tells_apart(shown: np.ndarray, patterns: np.ndarray) -> bool:
    """Whether different levels of the image's pixels are still different when shown."""
    low, high = patterns.min(), patterns.max()
    if low == high or shown[low] != shown[high]:
        return True
    return bool(np.ptp(shown[np.unique(patterns)]) > 0)


def _table(header: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    tables = items(header, "VOILUTSequence")
    if not tables:
        return None

    def apply(values: np.ndarray) -> np.ndarray:
        # pydicom counts the entries of an 8-bit table in 8 bits; 16 work as well, since the output is stretched.
        tables[0].LUTDescriptor = [*tables[0].LUTDescriptor[:2], 16]
        if not tables[0].LUTData:
            raise ValueError
        return apply_voi_lut(np.rint(values).astype(int), header)  # it looks up integers only

    return apply


def _window(header: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    pairs = list(zip(numbers(header, "WindowCenter"), numbers(header, "WindowWidth"), strict=False))
    center, width = next((pair for pair in pairs if all(map(isfinite, pair))), (nan, nan))
    function, bits = text(header, "VOILUTFunction") or "LINEAR", header.BitsStored
    for name in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
        if name in header:
            delattr(header, name)  # otherwise the table's function would use them too

    def apply(values: np.ndarray) -> np.ndarray:
        window = Dataset()
        window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", bits, 0
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
        return apply_voi_lut(values, window)

    return apply if pairs else None


def find_padding(
    stored: np.ndarray, patterns: np.ndarray, levels: np.ndarray, header: FileDataset
) -> tuple[np.ndarray | None, list[str]]:
    """
    Find the pixels with PixelPaddingValue, or in the range up to PixelPaddingRangeLimit (DICOM PS3.3, C.7.5.1.1.2).

    Args:
        stored: (H, W), all allocated bits.
        patterns: (H, W), the stored bits alone, indices into `levels`.
        levels: the value of each pattern.

    Returns:
        (H, W) bool, None if there is no padding; and remarks about what was ignored in the header.
    """
    first, last = numbers(header, "PixelPaddingValue")[:1], numbers(header, "PixelPaddingRangeLimit")[:1]
    given = {"PixelPaddingValue": first, "PixelPaddingRangeLimit": last}
    remarks = [LEFT_OUT.format(name) for name, value in given.items() if value and not isfinite(value[0])]
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
