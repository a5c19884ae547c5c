"""PNG, JPEG and other raster images through Pillow; TIFF through tifffile."""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import PIL.Image
import tifffile
from PIL import ImageOps

from miram.errors import InputError
from miram.readers.image import Image, check_content, check_size, drop_alpha, gray_of_color, naming_damage, to_uint16
from miram.readers.tiff_segments import PACKED, check_segments, is_plain, read_segments
from miram.readers.volumes import itk_array

GRAY_MODES = {"1", "L", "I", "I;16", "I;16B", "I;16L", "F"}
COLOR_MODES = {"LA", "RGB", "RGBA", "P", "PA"}
# The largest number of pixels per byte, if it is limited: deflate expands a byte to at most 1,032; Huffman coding uses
# at least one bit for 64 pixels (a DC term).
PIXELS_PER_BYTE = {"PNG": 1032 * 8, "JPEG": 512, "MPO": 512}
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode "I" holds 16 bits, which older versions of Pillow open as 32
GRAY_TIFF = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
ORIENTATION = 274


def read_pillow(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read an image that Pillow knows, such as a PNG or JPEG; an EXIF orientation is applied.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, animated, colored or partly transparent.
    """
    with naming_damage(path), _without_pillows_limit(), PIL.Image.open(path) as image:
        if image.format == "TIFF":  # whatever its suffix; Pillow supports fewer kinds of TIFF
            return read_tiff(path, max_pixels, intensity)
        check_size(path, (image.height, image.width), max_pixels)
        if image.format in PIXELS_PER_BYTE:
            check_content(path, (image.height, image.width), PIXELS_PER_BYTE[image.format])
        # The second picture of an MPO (JPEG) file is a preview or a brightness map.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise InputError(f"{path} is animated or has several pages; give one image per file")
        with PIL.Image.open(path) as unread:
            unread.verify()  # the checksums of a PNG, which Pillow does not verify when it reads the pixels
        wide = _is_wide_png(path)
        values = _turned(itk_array(path), image.getexif().get(ORIENTATION, 1)) if wide else _values(path, image)
    pixels, scaling = to_uint16(path, _gray(path, values), intensity)
    return Image(pixels, scaling=scaling)


def read_tiff(path: str | os.PathLike[str], max_pixels: int, intensity: str = "stored") -> Image:
    """
    Read a TIFF with one page, striped or tiled, also with a pyramid (its largest level), in its own data type.

    Its orientation is applied, as for other formats.

    Raises:
        InputError: if the file is damaged, larger than `max_pixels`, of several pages, colored or partly transparent.
    """
    with naming_damage(path), _without_pillows_limit(), tifffile.TiffFile(path) as tiff:
        page = _only_page(path, tiff)
        check_size(path, (page.imagelength, page.imagewidth), max_pixels)
        _check_colors(path, page)
        check_segments(path, page, max_pixels)
        values, white_is_zero = _tiff_values(path, page)
    pixels, scaling = to_uint16(path, _gray(path, values), intensity)
    return Image(65535 - pixels if white_is_zero else pixels, scaling=scaling)


def _only_page(path: str | os.PathLike[str], tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    _check_directories(path, tiff)
    series = tiff.series[0]
    if len(series.pages) != 1 or len(tiff.series) > 1:
        raise InputError(f"{path} has several pages; give one image per file, or convert a stack to NIfTI")
    return tiff.pages.first


def _check_directories(path: str | os.PathLike[str], tiff: tifffile.TiffFile, most: int = 1000) -> None:
    """
    Walk through the pages' directories, since tifffile loops forever if one has no entries.

    Raises:
        InputError: if one is empty or cut off, or there are more than `most`, for example because they form a circle.
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


def _check_colors(path: str | os.PathLike[str], page: tifffile.TiffPage) -> None:
    """Refuse color spaces other than gray and RGB, by name, and volumes."""
    names = (*GRAY_TIFF, tifffile.PHOTOMETRIC.RGB)
    jpeg = page.compression in (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)
    if page.photometric not in names and not (jpeg and page.photometric == tifffile.PHOTOMETRIC.YCBCR):
        raise InputError(f"{path} is a color image ({_name(page.photometric)}); give gray images")
    if page.imagedepth != 1:
        raise InputError(f"{path} holds a volume; convert it to NIfTI")


def _tiff_values(path: str | os.PathLike[str], page: tifffile.TiffPage) -> tuple[np.ndarray, bool]:
    """(H, W) or (H, W, channels), and whether low values are bright."""
    if is_plain(page):
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        return _turned(read_segments(path, page), page.tags.valueof(ORIENTATION, 1)), white_is_zero
    # Codings of pixels rather than bytes, such as JPEG and fax codings: Pillow supports them for 8 bits and 1 bit.
    if page.dtype in (np.uint8, bool) and page.bitspersample in (1, 8) and page.compression not in PACKED:
        with PIL.Image.open(path, formats=("TIFF",)) as image:
            return _values(path, image), False
    raise InputError(
        f"{path} is a TIFF of {page.bitspersample}-bit values ({_name(page.sampleformat)}) in the coding "
        f"{_name(page.compression)}, predictor {_name(page.predictor)}, which is not read here; "
        "save it uncompressed, or as LZW or deflate, with 8, 16 or 32 bits per value"
    )


def _name(value: int) -> str:
    return value.name if isinstance(value, enum.Enum) else str(value)


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W[, channels]) with its Orientation tag applied (TIFF 6.0, EXIF)."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down, across = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if down else 1, :: -1 if across else 1])


def _values(path: str | os.PathLike[str], image: PIL.Image.Image) -> np.ndarray:
    sixteen_bits = image.format in SIXTEEN_BITS
    image = ImageOps.exif_transpose(image)
    if image.mode in GRAY_MODES:
        values = np.asarray(image)
        return values.astype(np.uint16) if image.mode == "I" and sixteen_bits else values
    if image.mode not in COLOR_MODES:
        raise InputError(f"{path} is a color image ({image.mode}); give gray images")
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _gray(path: str | os.PathLike[str], values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 1 to 4) -> (H, W)."""
    channels = values.shape[-1] if values.ndim == 3 else 1
    if channels > 4 or (channels > 1 and values.dtype.kind != "u"):
        raise InputError(f"{path} has {channels} channels of {values.dtype}; give gray images")
    if channels in (2, 4):
        values = drop_alpha(path, values)
    if channels in (3, 4):
        return gray_of_color(path, values)
    return values[..., 0] if values.ndim == 3 else values


def _is_wide_png(path: str | os.PathLike[str]) -> bool:
    """Whether a PNG has several 16-bit channels (by its header), which Pillow would reduce to 8 bits."""
    with open(path, "rb") as stream:
        header = stream.read(26)
    return header[:4] == b"\x89PNG" and header[24] == 16 and header[25] in (2, 4, 6)


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's own limit, a global, while ours is checked; opening a file does not decode it."""
    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before
