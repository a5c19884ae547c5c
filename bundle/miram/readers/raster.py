"""PNG, JPEG and TIFF."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import tifffile
from PIL import ImageOps

from miram.errors import InputError
from miram.readers.codestreams import inflated_size
from miram.readers.image import Image, check_content, check_size, drop_alpha, gray_of_color, reason, to_uint16
from miram.readers.volumes import itk_array

GRAY_MODES = {"1", "L", "I", "I;16", "I;16B", "I;16L", "F"}
COLOR_MODES = {"LA", "RGB", "RGBA", "P", "PA"}
DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)


def read_pillow(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a PNG or JPEG; an EXIF orientation is applied.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, animated, colored or partly transparent.
    """
    try:
        with _without_pillows_limit(), PIL.Image.open(path) as image:
            check_size(path, (image.height, image.width), max_pixels)
            # Deflate makes at most 1,032 bytes of one; Huffman coding takes a bit or more for 64 pixels (a DC term).
            check_content(path, (image.height, image.width), 1032 * 8 if image.format == "PNG" else 512)
            if getattr(image, "n_frames", 1) > 1 and image.format == "PNG":
                raise InputError(f"{path} is animated; give one image a file")
            values = itk_array(path) if _is_wide_png(path) else _values(path, ImageOps.exif_transpose(image))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error for damaged files.
        raise InputError(
            f"{path} cannot be read ({reason(error)}); it may be truncated or damaged, copy it again"
        ) from error
    pixels, scaling = to_uint16(path, _gray(path, values), intensity)
    return Image(pixels, scaling=scaling)


def read_tiff(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a TIFF of one page, striped or tiled, also with a pyramid (its largest level).

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, of several pages, colored or partly transparent.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page = _only_page(path, tiff)
            check_size(path, (page.imagelength, page.imagewidth), max_pixels)
            white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
                raise InputError(f"{path} is a color image (palette); give gray images")
            _check_segments(path, page, max_pixels)
            values = _tiff_values(path, page)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds for damaged files.
        raise InputError(
            f"{path} cannot be read ({reason(error)}); it may be truncated or damaged, copy it again"
        ) from error
    pixels, scaling = to_uint16(path, _gray(path, values), intensity)
    return Image(65535 - pixels if white_is_zero else pixels, scaling=scaling)


def _only_page(path: str | os.PathLike[str], tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    _check_directories(path, tiff)
    series = tiff.series[0]
    if len(series.pages) != 1 or len(tiff.series) > 1:
        raise InputError(f"{path} has several pages; give one image a file, or convert a stack to NIfTI")
    return tiff.pages.first


def _check_directories(path: str | os.PathLike[str], tiff: tifffile.TiffFile, most: int = 1000) -> None:
    """
    Walk through the pages' directories, since tifffile goes round for ever where one has no entries.

    Raises:
        InputError: if one is empty or cut off, or there are more than `most`, as where they lead in a circle.
    """
    stream, form = tiff.filehandle, tiff.tiff
    stream.seek(8 if form.is_bigtiff else 4)
    for _ in range(most):
        (place,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
        if place == 0:
            return
        stream.seek(place)
        (entries,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
        if entries == 0:
            break
        stream.seek(place + form.tagnosize + entries * form.tagsize)
    raise InputError(f"{path} is damaged: the list of its pages is empty or has no end; export it again")


def _check_segments(path: str | os.PathLike[str], page: tifffile.TiffPage, max_pixels: int) -> None:
    """
    Check the strips or tiles: tifffile fills missing ones with zeros, and inflates one to whatever it holds.

    Raises:
        InputError: if some are missing or cut off, or hold more than they claim.
    """
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    inside = all(count > 0 and offset + count <= Path(path).stat().st_size for offset, count in segments)
    if len(segments) < math.prod(page.chunked) or not inside:
        raise InputError(f"{path} is truncated: not all of its strips or tiles are there; copy or export it again")
    if page.is_tiled:
        check_size(path, page.chunks[:2], max_pixels)
    if page.compression not in DEFLATE:
        return
    # A strip may claim 2^32 - 1 rows, which says that it is the whole image.
    values = math.prod(page.chunks) if page.is_tiled else min(math.prod(page.chunks), math.prod(page.shape))
    size = values * (page.dtype.itemsize if page.dtype else 1)
    with open(path, "rb") as stream:
        for offset, _ in segments:
            stream.seek(offset)
            if inflated_size(stream, size) > size:
                raise InputError(f"{path} holds more in a strip or tile than it claims; it is damaged, export it again")


def _tiff_values(path: str | os.PathLike[str], page: tifffile.TiffPage) -> np.ndarray:
    """(H, W) or (H, W, channels)."""
    if page.compression not in (tifffile.COMPRESSION.NONE, *DEFLATE):
        # LZW, JPEG and the like: tifffile needs one more package for them, itk brings libtiff.
        return itk_array(path)
    values = page.asarray()
    planar = values.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    return np.moveaxis(values, 0, -1) if planar else values


def _values(path: str | os.PathLike[str], image: PIL.Image.Image) -> np.ndarray:
    if image.mode in GRAY_MODES:
        values = np.asarray(image)
        # Older Pillow opens a 16-bit PNG as 32 bit.
        return values.astype(np.uint16) if image.mode == "I" and image.format in ("PNG", None) else values
    if image.mode not in COLOR_MODES:
        raise InputError(f"{path} is a color image ({image.mode}); give gray images")
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _gray(path: str | os.PathLike[str], values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 1 to 4) -> (H, W)."""
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        values = drop_alpha(path, values)
    if values.ndim == 3 and values.shape[-1] == 3:
        return gray_of_color(path, values)
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def _is_wide_png(path: str | os.PathLike[str]) -> bool:
    """Whether a PNG has several channels of 16 bit (by its header), which Pillow would cut down to 8."""
    with open(path, "rb") as stream:
        header = stream.read(26)
    return header[:4] == b"\x89PNG" and header[24] == 16 and header[25] in (2, 4, 6)


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's own limit, a global, while ours is asked; it opens a file without decoding it."""
    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before
