"""What a header claims of its pixels, checked before a decoder allocates memory: their size and their place."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from miram.errors import InputError
from miram.files import path_inside
from miram.readers.pydicom_versions import pixel_fragments

# Frame headers of JPEG (ITU-T T.81, table B.1, without DHT, JPG and DAC) and of JPEG-LS (T.87).
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Where the headers of MHA, MHD and NRRD say that their pixels are: itk would read them from anywhere.
FIELDS = {
    "data": re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*([^\r\n]*)\r?\n", re.MULTILINE | re.IGNORECASE),
    "packed": re.compile(rb"^(?:CompressedData\s*=\s*true|encoding:[ \t]*gz)", re.MULTILINE | re.IGNORECASE),
    "skip": re.compile(rb"^(?:line|byte) ?skip:[ \t]*[^0\s]", re.MULTILINE | re.IGNORECASE),
}
NRRD_END = re.compile(rb"\r?\n\r?\n")
ZLIB, GZIP = zlib.MAX_WBITS, 16 + zlib.MAX_WBITS
JPEG_START, JPEG2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"


def inflated_size(stream: BinaryIO, limit: int, wbits: int = zlib.MAX_WBITS) -> int:
    """
    The size of deflated data when inflated, counted in small pieces and only until slightly above `limit`.

    Args:
        stream: positioned at the start of the data; it may continue after their end.
        limit: in bytes.
        wbits: of zlib, which says whether there is a header.

    Raises:
        zlib.error: if the data are damaged, or end before their checksum.
    """
    decoder, size = zlib.decompressobj(wbits), 0
    while size <= limit and not decoder.eof:
        packed = decoder.unconsumed_tail or stream.read(2**16)
        if not packed:
            raise zlib.error("incomplete data")
        size += len(decoder.decompress(packed, 2**20))
    return size


def check_inflated(path: str | os.PathLike[str], limit: int) -> None:
    """
    Check that a deflated data set does not exceed a size limit: pydicom inflates all of it.

    Args:
        path: a DICOM file; other transfer syntaxes pass the check.
        limit: in bytes.

    Raises:
        InputError: if it is larger.
    """
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    with open(path, "rb") as stream:
        stream.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        size = inflated_size(stream, limit, -zlib.MAX_WBITS)
    if size > limit:
        raise InputError(f"{path} inflates to more than {limit} bytes; raise max_pixels if it is really that large")


def check_codestream(path: str | os.PathLike[str], header: FileDataset) -> None:
    """
    Check that a compressed image has the size in its DICOM header: decoders use the size in the codestream.

    Raises:
        InputError: if the sizes differ, or the codestream's cannot be found.
    """
    if header.file_meta.TransferSyntaxUID == RLELossless:
        return  # it does not contain a size
    stream = b"".join(fragment for fragment in pixel_fragments(header.PixelData) if fragment)
    # JPEG 2000's start marker may occur in JPEG data by chance, so the first bytes decide
    size = _jpeg_size(stream) if stream.startswith(JPEG_START) else _jpeg2000_size(stream)
    if size is None:
        raise InputError(f"{path} holds no complete image (no frame header); copy or export it again")
    if size != (header.Rows, header.Columns):
        raise InputError(
            f"{path} is damaged: its header says {header.Rows}x{header.Columns} pixels, its compressed image "
            f"{size[0]}x{size[1]}; copy or export it again"
        )


def _jpeg2000_size(stream: bytes) -> tuple[int, int] | None:
    """(height, width) from the SIZ marker (ITU-T T.800, A.5.1), also in a JP2 file."""
    start = stream.find(JPEG2000_START)
    if start < 0 or len(stream) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", stream[start + 8 : start + 24])
    return bottom - top, right - left


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """(height, width) from the first frame header of a JPEG or JPEG-LS."""
    place = len(JPEG_START)
    while place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4], "big")
        if marker in FRAMES:
            height, width = struct.unpack(">2H", stream[place + 5 : place + 9])
            return height, width
        place += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def check_data_file(path: str | os.PathLike[str], size: int) -> None:
    """
    Check that the pixels are in the header's folder, and that deflated ones are complete and undamaged.

    itk leaves missing pixels as uninitialised memory, and does not verify the checksum of NRRD.

    Args:
        path: MHA, MHD, NRRD or NHDR.
        size: of the pixels in bytes, as claimed by the header.

    Raises:
        InputError: if the pixels are in another folder, in several files, or fewer or more than claimed.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        head = stream.read(2**16)
    is_nrrd = head.startswith(b"NRRD")
    end = NRRD_END.search(head) if is_nrrd else FIELDS["data"].search(head)
    head = head[: end.end()] if end else head
    found = FIELDS["data"].search(head)
    name = found[1].decode(errors="replace").strip() if found else "LOCAL"  # NRRD does not name its own file
    if name.upper() == "LOCAL":
        data, offset = path, len(head) if end else 0
    elif name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} has its pixels in several files; convert it to one .mha or .nrrd")
    else:
        data, offset = _beside(path, name), 0
    if size > 1032 * data.stat().st_size:  # deflate expands a byte to at most 1,032
        raise InputError(f"{path} is truncated: {data.stat().st_size} bytes cannot hold the {size} that it claims")
    if FIELDS["packed"].search(head):
        if FIELDS["skip"].search(head):
            raise InputError(f"{path} skips a part of its packed pixels; convert it to .mha or .nii.gz")
        _check_inflated(path, data, offset, size, GZIP if is_nrrd else ZLIB)


def _beside(path: Path, name: str) -> Path:
    try:
        return path_inside(path.parent, name)
    except InputError as error:
        raise InputError(f"{path} refers to pixels elsewhere: {error}") from error


def _check_inflated(path: Path, data: Path, offset: int, size: int, wbits: int) -> None:
    with open(data, "rb") as stream:
        stream.seek(offset)
        inflated = inflated_size(stream, size, wbits)
    if inflated != size:
        raise InputError(f"{path} holds {inflated} of {size} bytes of pixels; it is damaged, copy or convert it")
