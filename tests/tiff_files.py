"""TIFF files for tests, in packings that tifffile writes only with one more package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

LZW, PACKBITS = tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.PACKBITS


def write_packed(path: Path, values: np.ndarray, compression: int, orientation: int = 1, **options: Any) -> Path:
    """Write by tifffile, then pack each strip or tile."""
    tags = [(274, "H", 1, orientation, True)] if orientation != 1 else []
    tifffile.imwrite(path, values, extratags=tags, **options)
    if compression == tifffile.COMPRESSION.NONE:
        return path
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page, stream = tiff.pages.first, tiff.filehandle
        offsets, lengths = [], []
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            packed = {LZW: lzw, PACKBITS: packbits}[compression](stream.read(count))
            offsets.append(stream.seek(0, 2))
            lengths.append(stream.write(packed))
        page.tags["Compression"].overwrite(int(compression))
        for name in ("Tile", "Strip"):
            if f"{name}Offsets" in page.tags:
                page.tags[f"{name}Offsets"].overwrite(offsets, dtype="I")
                page.tags[f"{name}ByteCounts"].overwrite(lengths, dtype="I")
    return path


def packbits(data: bytes) -> bytes:
    """Runs of literal bytes."""
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def lzw(data: bytes) -> bytes:
    """Each byte as a code of 9 bits; the table is cleared before codes become longer (TIFF 6.0, section 13)."""
    codes = [code for start in range(0, len(data), 200) for code in (256, *data[start : start + 200])]
    bits = "".join(f"{code:09b}" for code in (*codes, 257))
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
