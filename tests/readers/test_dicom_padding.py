"""Padding is air, whatever its value, and does not count in percentiles."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from miram.readers.dicom import read_dicom

from ..image_files import dataset, picture, save, write_dicom

LIMIT = 10**6
WINDOWS: tuple[dict[str, Any], ...] = (
    {},
    {"WindowCenter": 2000, "WindowWidth": 3000},
    {"RescaleSlope": 2, "RescaleIntercept": -100},
    {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 2000, "WindowWidth": 3000},
)


@pytest.mark.parametrize(
    ("photometric", "padding", "elements", "intensity"),
    product(("MONOCHROME1", "MONOCHROME2"), (0, 4095, 1234, 65535), WINDOWS, ("stored", "percentiles")),
)
def test_padding_is_air_and_changes_nothing_else(
    tmp_path: Path, photometric: str, padding: int, elements: dict[str, Any], intensity: str
) -> None:
    stored = picture(12).clip(1300, 4000)
    right = write_dicom(tmp_path / "a.dcm", stored[:, :60], 12, PhotometricInterpretation=photometric, **elements)
    stored[:, 60:] = padding
    elements = elements | {"PhotometricInterpretation": photometric, "PixelPaddingValue": padding}
    image = read_dicom(write_dicom(tmp_path / "b.dcm", stored, 12, **elements), LIMIT, intensity)
    assert image.pixels[:, 60:].max() == 0
    np.testing.assert_array_equal(image.pixels[:, :60], read_dicom(right, LIMIT, intensity).pixels)


@pytest.mark.parametrize("limits", [(0, 5), (5, 0)])
def test_a_range_is_padding(tmp_path: Path, limits: tuple[int, int]) -> None:
    stored = picture(12).clip(10, 4095)
    stored[0] = np.arange(80) % 7
    ends = {"PixelPaddingValue": limits[0], "PixelPaddingRangeLimit": limits[1]}
    path = write_dicom(tmp_path / "a.dcm", stored, 12, PhotometricInterpretation="MONOCHROME1", **ends)
    np.testing.assert_array_equal(read_dicom(path, LIMIT).pixels[0] == 0, stored[0] <= 5)


@pytest.mark.parametrize(("vr", "written"), [("SS", -20000), ("US", 45536)])
def test_signed_padding_is_known_however_it_is_written(tmp_path: Path, vr: str, written: int) -> None:
    stored = (picture(12).astype(int) - 1000).astype(np.int16)
    stored[:, 60:] = -20000
    result = dataset(stored, PixelPaddingValue=0)
    result["PixelPaddingValue"].VR = vr
    result.PixelPaddingValue = written
    pixels = read_dicom(save(tmp_path / "a.dcm", result), LIMIT).pixels
    assert pixels[:, 60:].max() == 0
    assert np.ptp(pixels[:, :60]) == 65535


@pytest.mark.parametrize("quality", [60, 90])
def test_padding_that_a_lossy_jpeg_has_blurred_is_air(tmp_path: Path, quality: int) -> None:
    stored = 255 - picture(8) // 3
    stored[:, 48:] = 0
    stored[40:48, 16:24] = 3  # a bright spot inside, a block of the JPEG: near to padding, and not part of it
    stream = io.BytesIO()
    PIL.Image.fromarray(stored).save(stream, format="JPEG", quality=quality)
    result = dataset(stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    result.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    result.PixelData = encapsulate([stream.getvalue()])
    result["PixelData"].is_undefined_length = True
    pixels = read_dicom(save(tmp_path / "a.dcm", result), LIMIT).pixels
    assert (pixels[:, 48:] == 0).mean() > 0.99  # but for what rings at the edge
    assert pixels[40, 20] > 40000


def test_padding_that_would_take_the_whole_image_is_left_out_and_said(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture(12), 12, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    image = read_dicom(path, LIMIT)
    assert image.pixels.max() == 65535
    assert image.remarks == ("all pixels would be padding by the header's PixelPaddingValue, which is ignored",)
