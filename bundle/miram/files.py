"""Atomic writing: a file is written under a temporary name and renamed, so readers see a complete file or none."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from miram.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_PATIENCE = 5.0  # seconds in which a run that was killed ends its own processes
_claims: dict[Path, FileLock] = {}  # of this process


@contextmanager
def atomic_write(path: str | os.PathLike[str], previous: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """
    Yield a temporary path beside `path`. On success flush it to disk and rename it to `path`; on failure remove it.

    The temporary name keeps the suffix of `path` (all of `.nii.gz`), since image writers choose a format by it.

    Args:
        path: the file to create or replace; its folder is created if it is missing.
        previous: path in the same folder under which an existing file is kept; None does not keep it.

    Yields:
        the path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp" + "".join(path.suffixes[-2:])
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove files that :func:`atomic_write` left when its process was killed; no other process may write there."""
    for path in Path(folder).glob(".*.tmp*"):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}\.tmp(\.[^.]+){0,2}", path.name):
            path.unlink(missing_ok=True)


def claim_folder(folder: str | os.PathLike[str]) -> None:
    """
    Keep other processes from writing to `folder` until it is released, or until this process ends in any way.
    Create it if it is missing.

    Raises:
        InputError: if another process has claimed it.
    """
    folder = Path(folder).resolve()
    if folder in _claims:  # an earlier run of this process: a notebook
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise InputError(
            f"another run is writing to {folder}: wait until its process has ended (also that of a notebook), or "
            "choose another --output_dir"
        ) from error
    _claims[folder] = lock


def release_folder(folder: str | os.PathLike[str]) -> None:
    """Let other processes write to a folder that this one has claimed."""
    lock = _claims.pop(Path(folder).resolve(), None)
    if lock is not None:
        lock.release()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` as JSON to `path`, completely or not at all; numbers that are not finite become null."""
    write_text(path, json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as CSV, numbers with six digits, completely or not at all."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_text(path: str | os.PathLike[str]) -> str:
    """
    A path, or a message that names one, as text that can be written anywhere.

    Bytes of a file name that are not UTF-8 (Latin-1 from an old disk or archive) become escapes such as `\\xe4`, since
    Python keeps them as surrogates that cannot be encoded. Any other text stays as it is.
    """
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_inside(folder: str | os.PathLike[str], relative: str) -> Path:
    """
    Join `relative` to `folder`, and refuse a path outside it.

    Raises:
        InputError: if `relative` is absolute, or leads out of `folder` (also through a link).
    """
    root = Path(folder).resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"the path {relative!r} leaves its folder {folder}; give a path inside it")
    return path


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _umask() -> int:
    """The process's umask: `mkstemp` makes files readable by their owner only, but users expect the usual mode."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
