"""Rescale, tables and windows that can be used, and those that cannot."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from miram.readers.dicom import read_dicom

from ..image_files import dataset, picture, save, write_dicom
from .test_dicom_facts import with_raw

LIMIT = 10**6


def table(entries: int, bits: int, **elements: Any) -> Dataset:
    """A lookup table that rises over its range."""
    result = Dataset()
    result.LUTDescriptor = [entries, 0, bits]
    result.LUTData = (np.arange(entries) * (2**bits - 1) // (entries - 1)).tolist()
    result["LUTDescriptor"].VR = result["LUTData"].VR = "US"
    for name, value in elements.items():
        setattr(result, name, value)
    return result


@pytest.mark.parametrize(
    ("center", "width", "function"),
    [
        (b"unknown ", b"100 ", b""),
        (b"2000", b"0 ", b""),
        (b"2000", b"-5", b"LINEAR_EXACT"),
        (b"2000", b"nan ", b""),
        (b"2000", b"3000", b"CURVED"),
        (b"-99999 ", b"10", b""),  # shows every pixel white
    ],
)
def test_a_window_that_cannot_be_used_is_left_out_and_said(
    tmp_path: Path, center: bytes, width: bytes, function: bytes
) -> None:
    result = with_raw(with_raw(dataset(picture(12), 12), "WindowCenter", "DS", center), "WindowWidth", "DS", width)
    image = read_dicom(save(tmp_path / "a.dcm", with_raw(result, "VOILUTFunction", "CS", function)), LIMIT)
    assert image.remarks == ("window of the header cannot be used and is ignored",)
    assert image.scaling == "12 bit x 65535/4095"


def test_the_first_window_that_can_be_used_is_applied(tmp_path: Path) -> None:
    result = with_raw(dataset(picture(12), 12), "WindowCenter", "DS", b"\\2000")
    image = read_dicom(save(tmp_path / "a.dcm", with_raw(result, "WindowWidth", "DS", b"\\3001,0 ")), LIMIT)
    expected = read_dicom(write_dicom(tmp_path / "b.dcm", picture(12), 12, WindowCenter=2000, WindowWidth=3001), LIMIT)
    np.testing.assert_array_equal(image.pixels, expected.pixels)


def test_a_window_without_a_width_counts_as_absent(tmp_path: Path) -> None:
    image = read_dicom(write_dicom(tmp_path / "a.dcm", picture(12), 12, WindowCenter=2000, WindowWidth=""), LIMIT)
    assert (image.scaling, image.remarks) == ("12 bit x 65535/4095", ())


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_a_table_is_applied_whatever_its_bits(tmp_path: Path, bits: int) -> None:
    stored = picture(12)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, 12, VOILUTSequence=[table(4096, bits)]), LIMIT)
    expected = (np.arange(4096) * (2**bits - 1) // 4095)[stored] / (2**bits - 1) * 65535
    np.testing.assert_allclose(image.pixels, expected, atol=1)  # rounding


@pytest.mark.parametrize("elements", [{"LUTDescriptor": None}, {"LUTData": None}, {"LUTDescriptor": [4096]}])
def test_a_damaged_table_gives_way_to_the_window(tmp_path: Path, elements: dict[str, Any]) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 1001}
    expected = read_dicom(write_dicom(tmp_path / "a.dcm", picture(12), 12, **window), LIMIT)
    damaged = table(4096, 12, **elements)
    image = read_dicom(write_dicom(tmp_path / "b.dcm", picture(12), 12, VOILUTSequence=[damaged], **window), LIMIT)
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    assert image.remarks == ("VOILUTSequence of the header cannot be used and is ignored",)


def test_a_damaged_modality_table_and_a_rescale_to_nothing_are_left_out(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", picture(12), 12, ModalityLUTSequence=[table(4096, 12, LUTData=None)])
    assert read_dicom(path, LIMIT).remarks == ("ModalityLUTSequence of the header cannot be used and is ignored",)
    path = write_dicom(tmp_path / "b.dcm", picture(12), 12, RescaleSlope=0, RescaleIntercept=0)
    (remark,) = read_dicom(path, LIMIT).remarks
    assert remark == "RescaleSlope or RescaleIntercept of the header cannot be used and is ignored"


def test_a_negative_rescale_turns_the_window_once(tmp_path: Path) -> None:
    elements = {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2047, "WindowWidth": 4096}
    image = read_dicom(write_dicom(tmp_path / "a.dcm", picture(12), 12, **elements), LIMIT)
    expected = (4095.0 - picture(12)) / 4095 * 65535
    np.testing.assert_allclose(image.pixels, expected, atol=17)  # the window's middle is half a level off


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
