"""Files of features: written from parts with little memory, and read again."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miram.errors import InputError
from miram.files import atomic_write

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Part:
    """The features of some images."""

    files: list[str]  # their names
    patients: list[str]  # theirs; "" is unknown, and "#..." a hash, which becomes a number
    problems: dict[str, str]  # by name, why an image was left out
    arrays: dict[str, np.ndarray]  # by feature, (N, ...)

    def write(self, path: Path) -> None:
        """Write the part, completely or not at all."""
        text = json.dumps({"files": self.files, "patients": self.patients, "problems": self.problems})
        content: dict[str, Any] = {"about": np.array(text), **self.arrays}
        with atomic_write(path) as temporary:
            np.savez(temporary, **content)

    @classmethod
    def read(cls, path: Path) -> Part:
        """Read what :meth:`write` wrote."""
        with np.load(path) as content:
            about = json.loads(str(content["about"]))
            return cls(**about, arrays={name: content[name] for name in content.files if name != "about"})


def check_output(path: str | os.PathLike[str]) -> None:
    """
    Refuse an output that cannot be written, before any work is done.

    Raises:
        InputError: if the suffix is unknown, or Parquet is asked for without pyarrow.
    """
    if Path(path).suffix not in SUFFIXES:
        raise InputError(f"--output is {path}; give a name that ends in {' or '.join(SUFFIXES)}")
    if Path(path).suffix == ".parquet":
        _pyarrow()


def write_features(output: Path, parts: Sequence[Path], facts: Mapping[str, Any]) -> None:
    """
    Join parts in one file, completely or not at all; no more than one part is in memory.

    Args:
        output: `.npz` has "file" and "patient" (N,), an array (N, ...) per feature, and "provenance", JSON text;
            `.parquet` has a row per image, features as lists (a grid row by row), and the provenance in its metadata.
    """
    names = dict.fromkeys(name for path in parts for name in Part.read(path).patients if name.startswith("#"))
    numbers = {name: f"patient_{number:04d}" for number, name in enumerate(names, start=1)}
    with atomic_write(output) as temporary:
        write = _write_npz if output.suffix == ".npz" else _write_parquet
        write(temporary, parts, numbers, json.dumps(facts))


def read_facts(path: Path) -> dict[str, Any]:
    """The provenance of a file of features, among it the "settings" with which it was made and what was "left_out"."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as content:
                text = str(content["provenance"])
        else:
            text = _pyarrow().parquet.read_schema(path).metadata[b"provenance"].decode()
        facts = dict(json.loads(text))
        return {"left_out": {}, **facts, "settings": dict(facts["settings"])}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a file of features ({error}); give another --output, or delete it") from error


def read_feature(path: Path, name: str) -> tuple[list[str], np.ndarray]:
    """The images' names and one feature, (N, D)."""
    if path.suffix == ".npz":
        with np.load(path) as content:
            return content["file"].tolist(), content[name]
    table = _pyarrow().parquet.read_table(path, columns=["file", name])
    return table["file"].to_pylist(), np.array(table[name].to_pylist(), np.float32)


def _write_npz(path: Path, parts: Sequence[Path], numbers: Mapping[str, str], provenance: str) -> None:
    first = next(part for part in _read(parts) if part.files)
    count = sum(len(part.files) for part in _read(parts))
    texts = {
        "file": [name for part in _read(parts) for name in part.files],
        "patient": [numbers.get(name, name) for part in _read(parts) for name in part.patients],
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in {**texts, "provenance": provenance}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.array(values))
        for name, array in first.arrays.items():
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": (count, *array.shape[1:])}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for part in _read(parts):
                    if part.files:
                        stream.write(np.ascontiguousarray(part.arrays[name]).tobytes())


def _write_parquet(path: Path, parts: Sequence[Path], numbers: Mapping[str, str], provenance: str) -> None:
    arrow = _pyarrow()
    first = next(part for part in _read(parts) if part.files)
    columns = [("file", arrow.string()), ("patient", arrow.string())]
    columns += [(name, arrow.list_(arrow.float32())) for name in first.arrays]
    shapes = {name: list(values.shape[1:]) for name, values in first.arrays.items()}
    schema = arrow.schema(columns, metadata={"provenance": provenance, "shapes": json.dumps(shapes)})
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for part in _read(parts):
            rows: dict[str, Any] = {"file": part.files, "patient": [numbers.get(name, name) for name in part.patients]}
            rows |= {name: list(array.reshape(len(array), -1)) for name, array in part.arrays.items()}
            if part.files:
                writer.write_table(arrow.table(rows, schema=schema))


def _read(parts: Sequence[Path]) -> Iterator[Part]:
    return (Part.read(path) for path in parts)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("Parquet needs pyarrow: pip install pyarrow, or give --output a name in .npz") from error
    return pyarrow
