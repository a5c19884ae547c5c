"""DICOM files in every encoding that is read, and those that are refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from miram.errors import InputError
from miram.readers.dicom import read_dicom

from ..image_files import dataset, picture, save, write_dicom, write_jpeg_baseline, write_jpeg_lossless

LIMIT = 10**6


def stretched(stored: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(stored / (2**bits - 1) * 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("syntax", "bits"),
    product((ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian), (8, 10, 12, 14, 16)),
)
def test_uncompressed_values_are_exact(tmp_path: Path, syntax: str, bits: int) -> None:
    stored = picture(bits)
    result = dataset(stored, bits)
    result.file_meta.TransferSyntaxUID = syntax
    image = read_dicom(save(tmp_path / "a.dcm", result), LIMIT)
    np.testing.assert_array_equal(image.pixels, stretched(stored, bits))
    names = {8: "8 bit x 257", 10: "10 bit x 65535/1023", 12: "12 bit x 65535/4095", 14: "14 bit x 65535/16383"}
    assert image.scaling == names.get(bits, "16 bit as stored")


def test_big_endian_values_are_exact(tmp_path: Path) -> None:
    stored = picture(16)
    result = dataset(stored)
    result.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    result.PixelData = stored.astype(">u2").tobytes()
    np.testing.assert_array_equal(read_dicom(save(tmp_path / "a.dcm", result), LIMIT).pixels, stored)


@pytest.mark.parametrize(
    ("encoder", "bits"),
    product(
        ((RLELossless, "pydicom"), (JPEGLSLossless, "pyjpegls"), (JPEG2000Lossless, "pylibjpeg")), (8, 10, 12, 14, 16)
    ),
)
def test_losslessly_compressed_values_are_exact(tmp_path: Path, encoder: tuple[str, str], bits: int) -> None:
    if encoder[1] != "pydicom":
        pytest.importorskip(
            {"pyjpegls": "jpeg_ls", "pylibjpeg": "openjpeg"}[encoder[1]], reason="no encoder for the test"
        )
    stored = picture(bits)
    result = dataset(stored, bits)
    result.compress(encoder[0], encoding_plugin=encoder[1])
    image = read_dicom(save(tmp_path / "a.dcm", result), LIMIT)
    np.testing.assert_array_equal(image.pixels, stretched(stored, bits))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_values_are_exact(tmp_path: Path, bits: int) -> None:
    stored = picture(bits)
    image = read_dicom(write_jpeg_lossless(tmp_path / "a.dcm", stored, bits), LIMIT)
    np.testing.assert_array_equal(image.pixels, stretched(stored, bits))


def test_baseline_jpeg_is_close(tmp_path: Path) -> None:
    stored = picture(8)
    image = read_dicom(write_jpeg_baseline(tmp_path / "a.dcm", stored), LIMIT)
    # Quality 95 moves a smooth picture by a level or two of 255.
    assert np.abs(image.pixels.astype(int) - stored.astype(int) * 257).max() <= 2 * 257


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    stored = picture(12)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, 12, PhotometricInterpretation="MONOCHROME1"), LIMIT)
    np.testing.assert_array_equal(image.pixels, 65535 - stretched(stored, 12))


@pytest.mark.parametrize(("high_bit", "shift"), [(11, 0), (15, 4)])
def test_bits_beyond_those_stored_are_masked_off(tmp_path: Path, high_bit: int, shift: int) -> None:
    stored = picture(12)
    overlay = np.uint16(0x8000 if shift == 0 else 0x0005)
    path = write_dicom(tmp_path / "a.dcm", (stored << shift) | overlay, 12, HighBit=high_bit)
    np.testing.assert_array_equal(read_dicom(path, LIMIT).pixels, stretched(stored, 12))


def test_window_spans_the_range(tmp_path: Path) -> None:
    stored = picture(12)
    window = {"WindowCenter": 2000, "WindowWidth": 1001, "VOILUTFunction": "LINEAR"}
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, 12, **window), LIMIT)
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5), clipped.
    expected = np.rint(np.clip((stored.astype(float) - 1999.5) / 1000 + 0.5, 0, 1) * 65535)
    np.testing.assert_allclose(image.pixels, expected, atol=1)  # rounding of another order
    assert image.scaling == "window of the header"


def test_voi_lut_is_applied(tmp_path: Path) -> None:
    stored = picture(8)
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = [(255 - value) ** 2 for value in range(256)]
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, VOILUTSequence=[table]), LIMIT)
    expected = np.rint((255 - stored.astype(float)) ** 2 / 255**2 * 65535)
    np.testing.assert_array_equal(image.pixels, expected)


def test_intensity_percentiles_ignores_the_window(tmp_path: Path) -> None:
    stored = picture(12)
    path = write_dicom(tmp_path / "a.dcm", stored, 12, WindowCenter=100, WindowWidth=10)
    low, high = np.percentile(stored, [0.5, 99.5])
    expected = np.rint(np.clip((stored - low) / (high - low), 0, 1) * 65535)
    image = read_dicom(path, LIMIT, "percentiles")
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.scaling == "percentiles 0.5-99.5"


@pytest.mark.parametrize("kind", ["signed", "rescaled"])
def test_values_without_a_known_range_are_stretched(tmp_path: Path, kind: str) -> None:
    stored = picture(12)
    if kind == "signed":
        # 12 bits of two's complement: the bits above the sign are left zero, as some devices do.
        values = stored.astype(int) - 2048
        path = write_dicom(tmp_path / "a.dcm", (values & 0xFFF).astype(np.uint16).view(np.int16), 12)
    else:
        values = stored.astype(float) * -2 + 10
        path = write_dicom(tmp_path / "a.dcm", stored, 12, RescaleSlope=-2, RescaleIntercept=10)
    low, high = np.percentile(values, [0.5, 99.5])
    expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 65535)
    np.testing.assert_array_equal(read_dicom(path, LIMIT).pixels, expected)


def test_identity_rescale_keeps_levels(tmp_path: Path) -> None:
    stored = picture(16)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=0), LIMIT)
    np.testing.assert_array_equal(image.pixels, stored)
    assert image.scaling == "16 bit as stored"


def test_gray_stored_as_rgb_is_read(tmp_path: Path) -> None:
    stored = picture(8)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", np.stack([stored] * 3, -1)), LIMIT)
    np.testing.assert_array_equal(image.pixels, stored.astype(int) * 257)


def test_header_facts(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", picture(), ImagerPixelSpacing=[0.07, 0.08], ImageLaterality="R", ViewPosition="MLO"
    )
    image = read_dicom(path, LIMIT)
    assert (image.spacing, image.laterality, image.view) == ((0.07, 0.08), "RIGHT", "MLO")
    assert image.patient == "SECRET-17"
    assert "SECRET" not in repr(image)


def test_pixel_spacing_and_view_code_win(tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "R-10242", "cranio-caudal"
    path = write_dicom(
        tmp_path / "a.dcm",
        picture(),
        ImagerPixelSpacing=[0.07, 0.08],
        PixelSpacing=[0.05, 0.06],
        ViewCodeSequence=[code],
        Laterality="L",
    )
    image = read_dicom(path, LIMIT)
    assert (image.spacing, image.laterality, image.view) == ((0.05, 0.06), "LEFT", "CC")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"PixelData": None}, "no complete pixel data"),
        ({"Rows": None}, "holds no image"),
        ({"PixelData": b"\0" * 100}, "truncated: 100 of 15360 bytes"),
        ({"Rows": 60000, "Columns": 60000}, "claims 60000x60000 pixels"),
        ({"Rows": 0}, "no pixels"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "color image"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 of 32 bits"),
    ],
)
def test_what_is_refused(tmp_path: Path, elements: dict[str, object], message: str) -> None:
    path = write_dicom(tmp_path / "odd.dcm", picture(), **elements)
    with pytest.raises(InputError, match=message) as error:
        read_dicom(path, LIMIT)
    assert "odd.dcm" in str(error.value)
    assert "SECRET" not in str(error.value)


def test_color_is_refused(tmp_path: Path) -> None:
    stored = np.stack([picture(8, seed=seed) for seed in range(3)], -1)
    with pytest.raises(InputError, match="color image"):
        read_dicom(write_dicom(tmp_path / "a.dcm", stored), LIMIT)


def test_twelve_bit_lossy_jpeg_names_the_remedy(tmp_path: Path) -> None:
    result = dataset(picture(12), 12)
    path = write_jpeg_lossless(tmp_path / "a.dcm", picture(12), 12)
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.51")
    path.write_bytes(content)
    assert result.BitsStored == 12
    assert JPEGExtended12Bit.encode() in content
    with pytest.raises(InputError, match="12-bit lossy JPEG"):
        read_dicom(path, LIMIT)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    result = dataset(picture(12), 12)
    result.compress(RLELossless)
    for name, path in (
        ("rle", save(tmp_path / "rle.dcm", result)),
        ("raw", write_dicom(tmp_path / "raw.dcm", picture())),
    ):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=f"{name}.dcm"):
            read_dicom(path, LIMIT)
