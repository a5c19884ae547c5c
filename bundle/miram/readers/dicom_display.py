"""From stored values to those that are meant to be seen, if the header's tables and windows can be used."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, nan

import numpy as np
from pydicom.dataset import Dataset

from miram.readers.dicom_tags import items, numbers, text
from miram.readers.pydicom_versions import apply_modality_lut, apply_voi_lut

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
