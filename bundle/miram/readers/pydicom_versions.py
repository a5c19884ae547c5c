"""Functions with different names in pydicom 2 and 3. MONAI Label, which serves packaged bundles, needs pydicom 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

IS_VERSION_2 = pydicom.__version__.startswith("2.")

if IS_VERSION_2:
    from pydicom.encaps import decode_data_sequence
    from pydicom.pixel_data_handlers.util import apply_modality_lut, apply_voi_lut
else:
    from pydicom.encaps import generate_fragments
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

__all__ = ["apply_modality_lut", "apply_voi_lut", "original_syntax", "pixel_fragments", "stored_values"]


def original_syntax(header: FileDataset) -> UID:
    """The uncompressed transfer syntax that was detected for a data set whose file does not name it."""
    implicit, little = (
        (header.read_implicit_vr, header.read_little_endian) if IS_VERSION_2 else header.original_encoding
    )
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def pixel_fragments(pixel_data: bytes) -> list[bytes]:
    """The fragments of a compressed image, without the first, which is the offset table."""
    return decode_data_sequence(pixel_data) if IS_VERSION_2 else list(generate_fragments(pixel_data))[1:]


def stored_values(header: FileDataset, plugin: str) -> np.ndarray:
    """
    Decode an image with one named decoder.

    Args:
        header: with the pixel data.
        plugin: pydicom 3's name of the decoder: "gdcm" or "pydicom"; "" for uncompressed data.

    Returns:
        (H, W) or (H, W, samples), with all allocated bits.
    """
    if not IS_VERSION_2:
        options: dict[str, Any] = {"decoding_plugin": plugin, "correct_unused_bits": False}
        header.pixel_array_options(**options)
    elif plugin:
        header.convert_pixel_data({"pydicom": "rle"}.get(plugin, plugin))
    return header.pixel_array
