"""How fast each installed decoder decodes whole DICOM images, and how fast this package reads them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder

from miram.errors import InputError
from miram.readers.formats import read_image
from miram.transforms.crops import resize_crop

READ, REDUCE = "miram, read", "miram, read and reduce to a quarter"


def measure_reading(source: str | os.PathLike[str], repeats: int = 5) -> pd.DataFrame:
    """
    Time the decoders in turn, in one process, on the file with the most pixels of each transfer syntax.

    Args:
        source: a DICOM file, or a folder with its subfolders.
        repeats: rounds; one more is run first and not counted.

    Returns:
        one row per file and decoder: "syntax", "file", "pixels" ("4000 x 3000"), "decoder" (pydicom's plugins, and
        :func:`miram.readers.formats.read_image`, alone and with anti-aliased downsampling), "cpu_seconds" (median),
        "low" and "high" (range), and "note": whether a decoder failed, or gave other values than the first.

    Raises:
        InputError: if no DICOM image is found, or there is less than one round.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; give at least 1")
    rows: list[dict[str, Any]] = []
    for syntax, path in sorted(_largest(Path(source)).items()):
        header = pydicom.dcmread(path)
        facts = {
            "syntax": pydicom.uid.UID(syntax).name,
            "file": path.name,
            "pixels": f"{header.Rows} x {header.Columns}",
        }
        rows += [{**facts, **row} for row in _measure(path, repeats)]
    return pd.DataFrame(rows)


def _largest(source: Path) -> dict[str, Path]:
    """The file with the most pixels of each transfer syntax."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    found: dict[str, tuple[int, Path]] = {}
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            syntax, size = str(header.file_meta.TransferSyntaxUID), int(header.Rows) * int(header.Columns)
        except (InvalidDicomError, AttributeError, OSError, TypeError, ValueError):
            continue  # not a DICOM image
        if size > found.get(syntax, (0, path))[0]:
            found[syntax] = (size, path)
    if not found:
        raise InputError(f"{source}: no DICOM image was found; give a file or a folder with some")
    return {syntax: path for syntax, (_, path) in found.items()}


def _measure(path: Path, repeats: int) -> list[dict[str, Any]]:
    """One row per decoder of a file."""
    seconds: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    values: dict[str, np.ndarray] = {}
    for _ in range(repeats + 1):
        for name, decode in _decoders(path).items():
            started = time.process_time()
            try:
                values[name] = decode()
            except Exception as error:  # decoders raise any kind of exception
                notes[name] = f"fails ({type(error).__name__})"
            seconds.setdefault(name, []).append(time.process_time() - started)
    first, *others = [name for name in values if name not in (READ, REDUCE)] or [""]  # none could decode it
    differ = [name for name in others if not np.array_equal(values[name], values[first])]
    notes |= dict.fromkeys(differ, f"other values than the decoder {first}")
    return [_row(name, taken[1:], notes.get(name, "")) for name, taken in seconds.items()]


def _decoders(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The timed functions by name; each opens the file again."""
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID

    def decoder(name: str) -> Callable[[], np.ndarray]:
        def decode() -> np.ndarray:
            header = pydicom.dcmread(path)
            if syntax.is_encapsulated:
                header.pixel_array_options(decoding_plugin=name)
            return header.pixel_array

        return decode

    def reduce() -> np.ndarray:
        pixels = read_image(path).pixels
        return resize_crop(pixels, [max(1, size // 4) for size in pixels.shape])

    return {
        **{name: decoder(name) for name in _plugins(syntax)},
        READ: lambda: read_image(path).pixels,
        REDUCE: reduce,
    }


def _plugins(syntax: pydicom.uid.UID) -> Sequence[str]:
    """The names of pydicom's decoders for a transfer syntax; a video has none."""
    if not syntax.is_encapsulated:
        return ("pydicom",)
    try:
        return get_decoder(syntax).available_plugins
    except NotImplementedError:
        return ()


def _row(name: str, seconds: Sequence[float], note: str) -> dict[str, Any]:
    return {
        "decoder": name,
        "cpu_seconds": float(np.median(seconds)),
        "low": min(seconds),
        "high": max(seconds),
        "note": note,
    }
