"""PNG, JPEG and TIFF of every kind, and damaged ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import itk
import numpy as np
import PIL.Image
import pytest
import tifffile
from PIL import Image

from miram.errors import InputError
from miram.readers.raster import read_pillow, read_tiff

from ..image_files import picture

LIMIT = 10**6


@pytest.mark.parametrize("bits", [8, 16])
def test_png_is_exact(tmp_path: Path, bits: int) -> None:
    stored = picture(bits)
    Image.fromarray(stored).save(tmp_path / "a.png")
    expected = stored.astype(int) * (257 if bits == 8 else 1)
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.png", LIMIT).pixels, expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_gray_stored_otherwise_is_read(tmp_path: Path, mode: str) -> None:
    stored = picture(8) if mode != "1" else (picture(8) > 128).astype(np.uint8) * 255
    Image.fromarray(stored).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.png", LIMIT).pixels, stored.astype(int) * 257)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_channels_keep_all_bits(tmp_path: Path, channels: int) -> None:
    stored = picture(16)
    layers = np.stack([stored] * channels, -1)
    if channels != 3:
        layers[..., -1] = 65535
    _write_wide_png(tmp_path / "a.png", layers)
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.png", LIMIT).pixels, stored)


def test_jpeg_of_a_gray_image_stored_as_rgb(tmp_path: Path) -> None:
    Image.fromarray(picture(8)).convert("RGB").save(tmp_path / "a.jpg", quality=60)
    with Image.open(tmp_path / "a.jpg") as image:
        luminance = np.asarray(image.convert("L")).astype(int)
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.jpg", LIMIT).pixels, luminance * 257)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    stored = picture(8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown a quarter turn clockwise
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(stored, -1).astype(int) * 257
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.png", LIMIT).pixels, expected)


def test_color_and_transparency_are_refused(tmp_path: Path) -> None:
    color = np.stack([picture(8, seed=seed) for seed in range(3)], -1)
    Image.fromarray(color).save(tmp_path / "color.png")
    Image.fromarray(color).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((8, 8, 2), 128, np.uint8), "LA").save(tmp_path / "clear.png")
    for name, message in (("color.png", "color image"), ("cmyk.jpg", "CMYK"), ("clear.png", "transparent")):
        with pytest.raises(InputError, match=message):
            read_pillow(tmp_path / name, LIMIT)


def test_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(8, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animated"):
        read_pillow(tmp_path / "a.png", LIMIT)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "jp2", "pgm", "tga", "png", "tif"])
def test_other_formats_that_pillow_knows_are_read(tmp_path: Path, suffix: str) -> None:
    stored = np.zeros((3000, 2000), np.uint8)  # packs well: far more pixels a byte than a JPEG can hold
    stored[1000:2000, 500:900] = 200
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_pillow(tmp_path / f"a.{suffix}", 10**7).pixels, stored.astype(int) * 257)


@pytest.mark.parametrize("suffix", ["jp2", "pgm", "png", "tif"])
def test_other_formats_of_sixteen_bits_keep_them(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(picture(16)).save(tmp_path / f"a.{suffix}")
    image = read_pillow(tmp_path / f"a.{suffix}", LIMIT)
    np.testing.assert_array_equal(image.pixels, picture(16))
    assert image.scaling == "16 bit as stored"


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_several_pages_of_other_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture(8, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="several pages"):
        read_pillow(tmp_path / f"a.{suffix}", LIMIT)


def test_a_tiff_that_is_called_png_is_read_as_one(tmp_path: Path) -> None:
    values = (picture(16).astype(int) - 30000).astype(np.int32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.tif").read_bytes())
    expected = read_tiff(tmp_path / "a.tif", LIMIT).pixels
    np.testing.assert_array_equal(read_pillow(tmp_path / "a.png", LIMIT).pixels, expected)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 50), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for place in range(50, len(content) - 20, 37):
        (tmp_path / "a.png").write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"a\.png"):
            read_pillow(tmp_path / "a.png", LIMIT)


def test_limit_holds_before_decoding_and_pillow_keeps_its_own(tmp_path: Path) -> None:
    Image.fromarray(picture(8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    before = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match=r"a\.png claims 60000x60000 pixels, more than max_pixels=1000000"):
        read_pillow(tmp_path / "a.png", LIMIT)
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def test_more_pixels_than_pillows_own_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(8)).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    assert read_pillow(tmp_path / "a.png", LIMIT).pixels.shape == (96, 80)


@pytest.mark.parametrize(("name", "share"), [("a.png", 0.5), ("a.jpg", 0.5), ("a.tif", 0.5), ("lzw.tif", 0.5)])
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    image = Image.fromarray(picture(8))
    if path.suffix == ".tif":
        # The directory stands before the pixels, so that only the pixels are cut.
        tifffile.imwrite(path, picture(8)) if name == "a.tif" else image.save(path, compression="tiff_lzw")
    else:
        image.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=name):
        (read_tiff if path.suffix == ".tif" else read_pillow)(path, LIMIT)


@pytest.mark.parametrize(
    ("options", "bits"),
    [({}, 8), ({}, 16), ({"compression": "zlib"}, 16), ({"tile": (32, 32)}, 16), ({"byteorder": ">"}, 16)],
)
def test_tiff_is_exact(tmp_path: Path, options: dict[str, Any], bits: int) -> None:
    stored = picture(bits)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", **options)
    expected = stored.astype(int) * (257 if bits == 8 else 1)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", LIMIT).pixels, expected)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_compressed_tiff_is_exact(tmp_path: Path, compression: str) -> None:
    stored = picture(16)
    Image.fromarray(stored).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", LIMIT).pixels, stored)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_white_is_zero_is_inverted(tmp_path: Path, compression: str | None) -> None:
    stored = picture(16)
    Image.fromarray(stored).save(tmp_path / "a.tif", compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages.first.tags["PhotometricInterpretation"].overwrite(0)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", LIMIT).pixels, 65535 - stored.astype(int))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_gray_stored_as_rgb_tiff_is_read(tmp_path: Path, planar: str) -> None:
    stored = picture(16)
    layers = np.stack([stored] * 3, -1 if planar == "contig" else 0)
    tifffile.imwrite(tmp_path / "a.tif", layers, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif", LIMIT).pixels, stored)


def test_float_tiff_is_stretched(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(16).astype(np.float32))
    assert read_tiff(tmp_path / "a.tif", LIMIT).scaling == "percentiles 0.5-99.5"


def test_tiff_stacks_and_claims_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([picture(8)] * 5), photometric="minisblack")
    with pytest.raises(InputError, match="several pages"):
        read_tiff(tmp_path / "a.tif", LIMIT)
    tifffile.imwrite(tmp_path / "b.tif", picture(8))
    with pytest.raises(InputError, match="96x80 pixels, more than max_pixels=100"):
        read_tiff(tmp_path / "b.tif", 100)


def _write_wide_png(path: Path, layers: np.ndarray) -> None:
    """A PNG of several 16-bit channels, which Pillow does not write; gray with alpha itk does not, either."""
    if layers.shape[-1] != 2:
        itk.imwrite(itk.image_from_array(layers, is_vector=True), str(path))
        return
    height, width = layers.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in layers)
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(body)) + kind + body + _crc(kind + body) for kind, body in chunks)
    )


def _crc(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


@pytest.mark.parametrize("entries", [b"\0\0", b""], ids=["no entries", "a circle"])
def test_a_tiff_whose_pages_have_no_end_is_refused(tmp_path: Path, entries: bytes) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(16))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[first : first + 2])
    place = first + 2 + 12 * count
    content[place : place + 4] = struct.pack("<I", len(content) if entries else first)
    (tmp_path / "a.tif").write_bytes(bytes(content) + entries + bytes(4) * bool(entries))
    with pytest.raises(InputError, match="has no end"):
        read_tiff(tmp_path / "a.tif", 10**6)


@pytest.mark.parametrize("tag", ["StripOffsets", "StripByteCounts"])
def test_a_tiff_without_its_strips_is_refused_and_no_black_image(tmp_path: Path, tag: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(16))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place = tiff.pages.first.tags[tag].valueoffset
    content[place : place + 4] = struct.pack("<I", len(content) if tag == "StripOffsets" else 0)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match="not all of its strips"):
        read_tiff(tmp_path / "a.tif", 10**6)
