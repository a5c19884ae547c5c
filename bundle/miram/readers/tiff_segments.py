"""Strips and tiles of a TIFF: checked for completeness, and unpacked for all types of values."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile

from miram.errors import InputError
from miram.readers.image import check_size

DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)
# libtiff unpacks these to bytes, whatever the data type.
PACKED = (tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.PACKBITS)
BITS = (1, 8, 16, 32, 64)


def check_segments(path: str | os.PathLike[str], page: tifffile.TiffPage, max_pixels: int) -> None:
    """Raise an InputError if strips or tiles are missing, which tifffile fills with zeros, or a tile is too large."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    inside = all(count > 0 and offset + count <= Path(path).stat().st_size for offset, count in segments)
    if len(segments) < math.prod(page.chunked) or not inside:
        raise InputError(f"{path} is truncated: not all of its strips or tiles are there; copy or export it again")
    if page.is_tiled:
        check_size(path, page.chunks[:2], max_pixels)


def is_plain(page: tifffile.TiffPage) -> bool:
    """Whether :func:`read_segments` can read a page: whole bytes or single bits, packed as bytes or uncompressed."""
    known = page.dtype is not None and page.bitspersample in BITS and page.predictor in (1, 2)
    return known and page.compression in (tifffile.COMPRESSION.NONE, *DEFLATE, *PACKED) and page.fillorder == 1


def read_segments(path: str | os.PathLike[str], page: tifffile.TiffPage) -> np.ndarray:
    """
    Read a plain page in its own data type.

    tifffile alone needs another package for LZW, and pads strips that are too short.

    Returns:
        (H, W, samples).

    Raises:
        InputError: if a strip or tile holds more or less than it claims.
    """
    separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    planes, samples = (page.samplesperpixel, 1) if separate else (1, page.samplesperpixel)
    height, width = page.imagelength, page.imagewidth
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    image = np.empty((planes, height, width, samples), page.dtype)
    places = product(range(planes), range(0, height, rows), range(0, width, columns))
    with open(path, "rb") as stream:
        for (plane, top, left), offset, count in zip(places, page.dataoffsets, page.databytecounts, strict=False):
            stream.seek(offset)
            there = rows if page.is_tiled else min(rows, height - top)
            needed = math.ceil(columns * samples * page.bitspersample / 8)
            data = _unpack(path, page.compression, stream.read(count), there * needed, rows * needed)
            part = image[plane, top : top + there, left : left + columns]
            part[:] = _numbers(data, page, (there, columns, samples))[: part.shape[0], : part.shape[1]]
    return np.moveaxis(image, 0, 2).reshape(height, width, planes * samples)


def _unpack(path: str | os.PathLike[str], compression: int, data: bytes, size: int, most: int) -> bytes:
    """The first `size` bytes of a strip or tile, which may hold up to `most`."""
    if compression in DEFLATE:
        decoder = zlib.decompressobj()
        unpacked = decoder.decompress(data, most + 1)
        if len(unpacked) > most:
            raise InputError(f"{path} holds more in a strip or tile than it claims; it is damaged, export it again")
        whole = decoder.eof
    else:
        whole = size <= 4096 * len(data)  # the most LZW expands a byte; memory for `size` is allocated at once
        packed = compression in PACKED and whole
        unpacked = _unpack_by_libtiff(compression, data, size) if packed else data
    if len(unpacked) < size or not whole:
        raise InputError(f"{path} holds less in a strip or tile than it claims; copy or export it again")
    return unpacked[:size]


def _unpack_by_libtiff(compression: int, data: bytes, size: int) -> bytes:
    """Unpack bytes through Pillow, as a one-row TIFF of 8-bit pixels: Pillow has libtiff, but few pixel types."""
    fields = {256: size, 257: 1, 258: 8, 259: int(compression), 262: 1, 273: 0, 277: 1, 278: 1, 279: len(data)}
    fields[273] = 8 + 2 + 12 * len(fields) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items()]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + bytes(4)
    with PIL.Image.open(io.BytesIO(head + data), formats=("TIFF",)) as row:
        return row.tobytes()


def _numbers(data: bytes, page: tifffile.TiffPage, shape: tuple[int, int, int]) -> np.ndarray:
    """The values of a strip or tile, (rows, columns, samples)."""
    rows, columns, samples = shape
    if page.bitspersample == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(rows, -1), axis=1)
        return bits[:, : columns * samples].reshape(shape)
    dtype = np.dtype(page.dtype)
    values = np.frombuffer(data, dtype.newbyteorder(page.parent.byteorder)).astype(dtype, copy=False).reshape(shape)
    if page.predictor == 1:
        return values
    differences = values.view(f"u{dtype.itemsize}")
    return differences.cumsum(axis=1, dtype=differences.dtype).view(dtype)
