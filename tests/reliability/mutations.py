"""Small valid files of every format that is read, and random damage to their bytes."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ..image_files import dataset, picture, save, write_dicom, write_jpeg_baseline, write_jpeg_lossless

SHAPE = (36, 32)
GZIPPED = ".nii.gz"
# What headers hold where they lie: nothing, one, the largest of each width, negative, and 100,000.
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000)


def seed_files() -> dict[str, bytes]:
    """One small valid file of each kind, by a name whose suffix is the format's."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for write in (_write_dicoms, _write_rasters, _write_volumes):
            write(root)
        return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def mutate(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    """
    Damage a file in one to four random ways.

    Checksums would hide a decoder from damage, so half of the time a gzipped file is damaged under its compression, and
    the checksums of a PNG are made right again.
    """
    inner = name.endswith(GZIPPED) and rng.random() < 0.7
    if inner:
        content = gzip.decompress(content)
    for _ in range(rng.integers(1, 5)):
        content = DAMAGES[rng.integers(len(DAMAGES))](content or b"\0", rng)
    if inner:
        return gzip.compress(content, mtime=0)
    return _with_right_checksums(content) if name.endswith(".png") and rng.random() < 0.7 else content


def _flip_bit(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def _set_number(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite one to eight bytes by an extreme number, in either byte order."""
    width, order = int(rng.choice([1, 2, 4, 8])), str(rng.choice(["big", "little"]))
    number = EXTREMES[rng.integers(len(EXTREMES))] % 2 ** (8 * width)
    place = _place(content, rng)
    return content[:place] + number.to_bytes(width, order) + content[place + width :]  # type: ignore[arg-type]


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _delete(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + int(rng.integers(1, 33)) :]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 33))) + content[place:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    place, width = _place(content, rng), int(rng.integers(1, 65))
    return content[:place] + rng.bytes(width) + content[place + width :]


DAMAGES: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    *(_flip_bit, _set_number, _set_number, _truncate, _delete, _insert, _repeat, _overwrite),
)


def _place(content: bytes, rng: np.random.Generator) -> int:
    """A place in the file, two times of three in the header: the pixels are the larger part and the lesser danger."""
    end = len(content) if rng.random() < 0.33 else min(len(content), 600)
    return int(rng.integers(max(end, 1)))


def _with_right_checksums(content: bytes) -> bytes:
    """The chunks of a PNG with their CRC, up to the first that cannot be parsed."""
    result, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        if place + 12 + length > len(content):
            break
        result += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return result + content[place:]


def _write_dicoms(root: Path) -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        result = dataset(picture(12, SHAPE), 12)
        result.file_meta.TransferSyntaxUID = syntax
        save(root / f"{syntax.name.replace(' ', '_')}.dcm", result)
    for name, syntax, plugin in (
        ("rle", RLELossless, "pydicom"),
        ("jpegls", JPEGLSLossless, "pyjpegls"),
        ("jpeg2000", JPEG2000Lossless, "pylibjpeg"),
    ):
        result = dataset(picture(16, SHAPE))
        result.compress(syntax, encoding_plugin=plugin)
        save(root / f"{name}.dcm", result)
    write_dicom(root / "explicit_window.dcm", picture(12, SHAPE), 12, WindowCenter=2000, WindowWidth=1000)
    write_dicom(root / "signed.dcm", picture(12, SHAPE).astype(np.int16), RescaleSlope=2, RescaleIntercept=-100)
    write_jpeg_baseline(root / "jpeg.dcm", picture(8, SHAPE))
    write_jpeg_lossless(root / "jpeg_lossless.dcm", picture(12, SHAPE), 12)


def _write_rasters(root: Path) -> None:
    gray8, gray16 = picture(8, SHAPE), picture(16, SHAPE)
    Image.fromarray(gray8).save(root / "gray8.png")
    Image.fromarray(gray16).save(root / "gray16.png")
    Image.fromarray(np.stack([gray8] * 3, axis=-1)).save(root / "rgb.png")
    Image.fromarray(gray8 > 100).save(root / "bilevel.png")
    (root / "wide.png").write_bytes(_wide_png(gray16))
    Image.fromarray(gray8).save(root / "gray.jpg", quality=90)
    Image.fromarray(gray8).save(root / "progressive.jpg", quality=90, progressive=True)
    tifffile.imwrite(root / "plain.tif", gray16)
    tifffile.imwrite(root / "deflate.tif", gray16, compression="zlib", tile=(16, 16))
    tifffile.imwrite(root / "float.tif", gray16.astype(np.float32), compression="zlib", rowsperstrip=8)
    stream = io.BytesIO()
    Image.fromarray(gray8).save(stream, format="TIFF", compression="tiff_lzw")
    (root / "lzw.tif").write_bytes(stream.getvalue())


def _wide_png(gray: np.ndarray) -> bytes:
    """A PNG of three channels of 16 bit, which Pillow does not write."""
    height, width = gray.shape
    rows = np.repeat(gray[..., None], 3, axis=-1).astype(">u2").reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _write_volumes(root: Path) -> None:
    import itk

    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    for name, values in (
        ("volume.nii", picture(16, (7, 6, 5))),
        ("volume.nii.gz", picture(16, (7, 6, 5))),
        ("slice.nii.gz", picture(8, (*SHAPE, 1))),
    ):
        nibabel.save(nibabel.Nifti1Image(values, affine), root / name)
    scaled = nibabel.Nifti1Image(picture(12, (7, 6, 5)).astype(np.float32) - 7.0, affine)
    scaled.set_data_dtype(np.int16)
    nibabel.save(scaled, root / "scaled.nii")
    nibabel.save(nibabel.Nifti2Image(picture(16, (7, 6, 5)), affine), root / "second.nii")
    image = itk.image_from_array(picture(16, (5, 6, 7)))
    itk.imwrite(image, str(root / "plain.mha"))
    itk.imwrite(image, str(root / "packed.mha"), compression=True)
    itk.imwrite(image, str(root / "plain.nrrd"))
    itk.imwrite(image, str(root / "packed.nrrd"), compression=True)
