"""Where the headers of MHA, MHD and NRRD say that their pixels are: itk would read them from anywhere."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

from miram.errors import InputError
from miram.files import path_inside
from miram.readers.codestreams import inflated_size

FIELDS = {
    "data": re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*([^\r\n]*)\r?\n", re.MULTILINE | re.IGNORECASE),
    "packed": re.compile(rb"^(?:CompressedData\s*=\s*true|encoding:[ \t]*gz)", re.MULTILINE | re.IGNORECASE),
    "skip": re.compile(rb"^(?:line|byte) ?skip:[ \t]*[^0\s]", re.MULTILINE | re.IGNORECASE),
}
NRRD_END = re.compile(rb"\r?\n\r?\n")
ZLIB, GZIP = zlib.MAX_WBITS, 16 + zlib.MAX_WBITS


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
