"""Every type of value in every packing, layout and orientation is read as it is without them, or refused by name."""

from __future__ import annotations

import io
import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from miram.errors import InputError
from miram.readers.raster import read_tiff

from ..image_files import picture
from ..tiff_files import LZW, PACKBITS, write_packed

LIMIT = 10**6
NONE, DEFLATE = tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.ADOBE_DEFLATE
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"rowsperstrip": 7}, {"tile": (32, 16)}, {"byteorder": ">"})


def values_of(kind: str) -> np.ndarray:
    """A picture over the range of an integer type, or -1 to 2."""
    if kind[0] == "f":
        return (picture(16, (50, 41)) / 65535 * 3 - 1).astype(kind)
    info = np.iinfo(kind)
    return (info.min + picture(16, (50, 41)) / 65536 * (float(info.max) - float(info.min))).astype(kind)


def write(path: Path, values: np.ndarray, compression: int, **options: Any) -> Path:
    if compression == DEFLATE:
        tifffile.imwrite(path, values, compression="zlib", **options)
        return path
    return write_packed(path, values, compression, **options)


@pytest.mark.parametrize(("kind", "compression", "layout"), product(TYPES, (NONE, LZW, PACKBITS, DEFLATE), LAYOUTS))
def test_a_type_is_read_as_itself(tmp_path: Path, kind: str, compression: int, layout: dict[str, Any]) -> None:
    values = values_of(kind)
    tifffile.imwrite(tmp_path / "plain.tif", values, photometric="minisblack")
    expected = read_tiff(tmp_path / "plain.tif", LIMIT)
    path = write(tmp_path / "a.tif", values, compression, photometric="minisblack", **layout)
    image = read_tiff(path, LIMIT)
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    known = {"u1": "8 bit x 257", "u2": "16 bit as stored"}
    assert image.scaling == expected.scaling == known.get(kind, "percentiles 0.5-99.5")


@pytest.mark.parametrize(("kind", "layout"), product(("u1", "u2", "i2", "i4"), LAYOUTS))
def test_differences_are_added_up(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    values = values_of(kind)
    options = {"photometric": "minisblack"} | layout
    tifffile.imwrite(tmp_path / "plain.tif", values, **options)
    moved = np.diff(values, axis=1, prepend=np.zeros_like(values, shape=(50, 1)))
    if "tile" in layout:  # each tile's rows begin anew
        moved[:, ::16] = values[:, ::16]
    write_packed(tmp_path / "a.tif", moved, LZW, **options)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tag, order = tiff.pages.first.tags["SamplesPerPixel"], tiff.byteorder
    # The tag of one sample a pixel, which is the default, makes place for Predictor, which has to follow in order.
    place = tag.offset
    content[place : place + 2] = struct.pack(f"{order}H", 317)
    content[place + 8 : place + 10] = struct.pack(f"{order}H", 2)
    (tmp_path / "a.tif").write_bytes(content)
    expected = read_tiff(tmp_path / "plain.tif", LIMIT).pixels
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", LIMIT).pixels, expected)


@pytest.mark.parametrize(
    ("planar", "compression", "layout"), product(("contig", "separate"), (NONE, LZW, PACKBITS, DEFLATE), LAYOUTS)
)
def test_gray_in_three_channels_is_read(tmp_path: Path, planar: str, compression: int, layout: dict[str, Any]) -> None:
    layers = np.stack([values_of("u2")] * 3, -1 if planar == "contig" else 0)
    path = write(tmp_path / "a.tif", layers, compression, photometric="rgb", planarconfig=planar, **layout)
    np.testing.assert_array_equal(read_tiff(path, LIMIT).pixels, values_of("u2"))


@pytest.mark.parametrize(("orientation", "compression"), product(range(1, 9), (NONE, LZW, PACKBITS)))
def test_an_orientation_is_applied_whatever_the_packing(tmp_path: Path, orientation: int, compression: int) -> None:
    stored = picture(8)
    path = write_packed(tmp_path / "a.tif", stored, compression, orientation, photometric="minisblack")
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream))).astype(int) * 257
    np.testing.assert_array_equal(read_tiff(path, LIMIT).pixels, expected)


@pytest.mark.parametrize(("coding", "white_is_zero"), product(("jpeg", "group4", "tiff_lzw", None), (False, True)))
def test_codings_of_pixels_keep_polarity_and_orientation(tmp_path: Path, coding: str, white_is_zero: bool) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    image = Image.fromarray(ramp).convert("1") if coding == "group4" else Image.fromarray(ramp)
    expected = 255 - np.asarray(image.convert("L"))[:, ::-1].astype(int)
    image.save(tmp_path / "a.tif", compression=coding, tiffinfo={274: 2})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages.first.tags["PhotometricInterpretation"].overwrite(0 if white_is_zero else 1)
    pixels = read_tiff(tmp_path / "a.tif", LIMIT).pixels.astype(int) // 257
    wanted = expected if white_is_zero else 255 - expected
    assert np.abs(pixels - wanted).max() <= 6  # the JPEG's


@pytest.mark.parametrize("compression", [NONE, LZW, PACKBITS])
def test_one_bit_is_read(tmp_path: Path, compression: int) -> None:
    stored = picture(8) > 128
    path = write_packed(tmp_path / "a.tif", stored, compression, photometric="minisblack")
    np.testing.assert_array_equal(read_tiff(path, LIMIT).pixels, stored * 65535)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("BitsPerSample", 12, "12-bit values"),
        ("Compression", 34887, "LERC"),
        ("PhotometricInterpretation", 5, "color image"),
        ("PhotometricInterpretation", 3, "color image"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, tag: str, value: int, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(16), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages.first.tags[tag].overwrite(value)
    with pytest.raises(InputError, match=rf"a\.tif.*{message}"):
        read_tiff(tmp_path / "a.tif", LIMIT)


@pytest.mark.parametrize(("kind", "channels"), [("f4", 3), ("i2", 3), ("u2", 5)])
def test_channels_that_are_not_gray_are_refused(tmp_path: Path, kind: str, channels: int) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([values_of(kind)] * channels, -1), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(InputError, match=rf"a\.tif has {channels} channels"):
        read_tiff(tmp_path / "a.tif", LIMIT)


@pytest.mark.parametrize("compression", [LZW, PACKBITS, DEFLATE])
def test_a_strip_that_holds_less_than_it_claims_is_refused(tmp_path: Path, compression: int) -> None:
    path = write(tmp_path / "a.tif", values_of("u2"), compression, photometric="minisblack", rowsperstrip=10)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages.first
        page.tags["StripByteCounts"].overwrite([count // 2 for count in page.databytecounts], dtype="I")
    with pytest.raises(InputError, match=r"a\.tif"):
        read_tiff(path, LIMIT)
