"""Write a bundle's folder completely or not at all, and a zip that depends only on its content."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from miram.errors import InputError
from miram.files import atomic_write

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can store


def write_zip(folder: Path, path: Path) -> None:
    """Zip a folder under its own name, completely or not at all: sorted, without times, owners and Python's caches."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files_of(folder)):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def check_replaceable(folder: Path, archive: Path) -> None:
    """
    Check that a folder may be replaced: it does not exist, or contains only what was packaged before.

    Args:
        archive: the zip next to it, which says what was packaged.

    Raises:
        InputError: with the files that were not packaged, or were changed afterwards.
    """
    if not folder.exists():
        return
    remedy = "move the folder away, or give another --output_dir"
    if not (folder.is_dir() and archive.is_file()):
        raise InputError(f"{folder} exists and was not packaged here (no {archive.name} next to it): {remedy}")
    packaged = _checksums(archive)
    here = {file.relative_to(folder.parent).as_posix(): file for file in files_of(folder)}
    changed = sorted(name for name, file in here.items() if packaged.get(name) != zlib.crc32(file.read_bytes()))
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise InputError(f"{folder} has files that were added or changed after packaging: {shown}. {remedy}")


def replace_folder(new: Path, folder: Path) -> None:
    """Replace `folder` by `new`, by renaming; both must be in the same file system."""
    old = new.with_name(new.name + ".old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def files_of(folder: Path) -> Iterator[Path]:
    """All files, without Python's caches."""
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _checksums(archive: Path) -> dict[str, int]:
    try:
        with zipfile.ZipFile(archive) as content:
            return {entry.filename: entry.CRC for entry in content.infolist()}
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a zip: move it away, or give another --output_dir") from error
