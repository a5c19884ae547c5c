"""The files of CBIS-DDSM: series by the UID in their headers, not by folder names, and masks by their pixels."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from miram.errors import InputError
from miram.files import write_text
from miram.progress import progress_bar
from miram.readers.dicom import quiet_pydicom
from miram.readers.formats import read_image
from miram.readers.search import search

logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class DicomFile:
    """One file below the scanned folder."""

    path: str  # relative to the scanned folder, with forward slashes
    size: int  # in bytes
    # time of the last change, in nanoseconds; with `size` it says whether a file is still the one scanned
    modified: int
    series: str = ""  # its SeriesInstanceUID, "" if it is not a readable DICOM image
    rows: int = 0  # height in pixels
    columns: int = 0  # width in pixels


@dataclass
class DicomIndex:
    """The DICOM files below a folder."""

    series: dict[str, list[DicomFile]] = field(default_factory=dict)  # the files of each series by its UID
    unreadable: list[str] = field(default_factory=list)  # paths of the `.dcm` files that no header could be read from
    # links that lead nowhere and folders that may not be read, with the reason
    unfollowed: dict[str, str] = field(default_factory=dict)

    def files(self, *uids: str) -> tuple[DicomFile, ...]:
        """The files of these series, those of most pixels first."""
        files = [file for uid in uids for file in self.series.get(uid, [])]
        return tuple(sorted(files, key=lambda file: (-file.rows * file.columns, file.path)))

    def missing(self, *uids: str) -> str:
        """Why some of these series cannot be used, in words; "" where there are files of each."""
        return "; ".join(self._why_missing(uid) for uid in uids if uid not in self.series)

    def _why_missing(self, uid: str) -> str:
        for path, reason in self.unfollowed.items():
            if uid in path:
                return f"{path}: {reason}"
        for path in self.unreadable:
            if uid in path:
                return f"{path} is not a readable DICOM file"
        # folders need not be named by the series
        behind = [f" (it may be behind {path}: {reason})" for path, reason in self.unfollowed.items()][:1]
        return "".join([f"no file of series {uid}", *behind])


def scan_dicom(dicom_dir: str | Path, cache: str | Path | None = None) -> DicomIndex:
    """
    Find the series below a folder: the classic and the descriptive download of TCIA, the IDC's, or any other layout.

    Only headers are read, and with a cache only those of files that are new or have changed since it was written.

    Args:
        dicom_dir: the folder; links in it are followed, hidden folders (unfinished downloads) left out.
        cache: the file to keep what was read in; None reads every header, and keeps nothing.

    Raises:
        InputError: if the folder does not exist or holds no DICOM file at all.
    """
    root = Path(dicom_dir)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the folder of the downloaded DICOM files as --dicom_dir")
    known = {} if cache is None else _read_cache(Path(cache))
    content = search(root)
    found = [_describe(root, name) for name in content.files]
    new = [file for file in found if file not in known]
    with ThreadPoolExecutor() as pool, quiet_pydicom():
        headers = pool.map(lambda file: _read_header(root, file), new)
        read = progress_bar(len(new), "Reading DICOM headers", unit="file", iterable=headers)
        known |= zip(new, read, strict=True)
    files = sorted(known[file] for file in found)
    if not any(file.series for file in files):
        first = next((f" ({name}: {reason})" for name, reason in content.problems.items()), "")
        raise InputError(
            f"{root} holds no DICOM file among its {len(files)} files{first}; give the folder of the download"
        )
    if cache is not None:
        write_text(cache, json.dumps([astuple(file) for file in files]))
    for name, reason in content.problems.items():
        logger.warning("%s: %s", root / name, reason)
    return _index(files, content.problems)


def _index(files: list[DicomFile], unfollowed: dict[str, str]) -> DicomIndex:
    index = DicomIndex(unfollowed=unfollowed)
    for file in files:
        if file.series:
            index.series.setdefault(file.series, []).append(file)
        elif file.path.lower().endswith(".dcm"):
            index.unreadable.append(file.path)
    return index


def _describe(root: Path, name: str) -> DicomFile:
    status = (root / name).stat()
    return DicomFile(name, status.st_size, status.st_mtime_ns)


def _read_header(root: Path, file: DicomFile) -> DicomFile:
    tags = ["SeriesInstanceUID", "Rows", "Columns"]
    try:
        header = pydicom.dcmread(root / file.path, stop_before_pixels=True, specific_tags=tags)
        series, rows, columns = str(header.SeriesInstanceUID), int(header.Rows), int(header.Columns)
    except (InvalidDicomError, AttributeError, ValueError, TypeError, EOFError, OSError):
        return file  # not a DICOM image: a licence text, or a broken file, which is reported if a row needs it
    if not re.fullmatch(r"\d[\d.]{0,63}", series):
        return file  # not a UID: it is not written into the cache
    return DicomFile(file.path, file.size, file.modified, series, rows, columns)


def _read_cache(path: Path) -> dict[DicomFile, DicomFile]:
    """The files that were read, each by what is known of it before."""
    try:
        read = [DicomFile(*values) for values in json.loads(path.read_text(encoding="utf-8"))]
        return {DicomFile(file.path, file.size, file.modified): file for file in read}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}  # missing or damaged: every header is read again


@dataclass(frozen=True)
class MaskFiles:
    """A lesion whose mask is in one of several files (a :class:`miram.prepare.regions.Region`)."""

    dicom_dir: Path  # the folder that paths are relative to
    mammogram: str  # path of the full mammogram
    files: tuple[DicomFile, ...]  # of the lesion's series: the mask and the cropped image in unknown order
    tolerance: float  # see :func:`fit_mask`

    @property
    def key(self) -> list[Any]:
        """What decides the mask: a file that is replaced has another size or time."""
        return [self.tolerance, *([file.path, file.size, file.modified] for file in self.files)]

    @property
    def if_constant(self) -> str:
        """What the report says if the mammogram has one value there."""
        return f"{self.mammogram} is constant where the mask has the lesion"

    def mask(self, shape: Sequence[int]) -> tuple[np.ndarray, str]:
        """
        Find the mask by what the files hold, since file numbers and descriptions are often wrong.

        Raises:
            InputError: if no file has two values and a size that fits; the message goes through all of them.
        """
        refused = []
        for path in (self.dicom_dir / file.path for file in self.files):
            try:
                pixels = read_image(path).pixels
                low, high = pixels.min(), pixels.max()
                if low == high:
                    raise InputError(f"{path} is empty: all its pixels are the same")
                if not np.all((pixels == low) | (pixels == high)):
                    raise InputError(f"{path} has more than two values")
                mask, remark = fit_mask(path, pixels == high, shape, self.tolerance)
                if not mask.any():
                    raise InputError(f"{path} has its lesion outside the mammogram: {remark}")
                return mask, remark
            except InputError as error:
                refused.append(str(error))
        raise InputError("no mask of the lesion: " + "; ".join(refused))


def fit_mask(path: Path, mask: np.ndarray, shape: Sequence[int], tolerance: float) -> tuple[np.ndarray, str]:
    """
    Bring a mask onto its mammogram's pixels.

    At least 78 published masks have 1 / 1.149 of the mammogram's sides (as their sizes in bytes tell): the film at 50
    instead of 43.5 micrometres a pixel. A mask whose sides have one ratio to the mammogram's is therefore resized; one
    of slightly other proportions is aligned at the origin.

    Args:
        mask: bool, of its own size.
        shape: (H, W) of the full mammogram.
        tolerance: how far the sides of a mask of other proportions may differ, as a share of the mammogram's.

    Returns:
        (H, W) bool, and a note that is empty where nothing was to be done.

    Raises:
        InputError: if the size differs more.
    """
    (own_height, own_width), (height, width) = mask.shape, shape
    sizes = f"mask of {own_height} x {own_width}", f"{height} x {width} pixels"
    if (own_height, own_width) == (height, width):
        return mask, ""
    if abs(own_width * height / own_height - width) <= max(2, 0.002 * width):  # the rounding of both sizes to pixels
        rows, columns = _nearest(height, own_height), _nearest(width, own_width)
        return mask[rows[:, None], columns[None, :]], f"{sizes[0]} resized to {sizes[1]}"
    if max(abs(own_height - height) / height, abs(own_width - width) / width) > tolerance:
        raise InputError(f"{path} is a {sizes[0]} pixels, the mammogram has {sizes[1]}")
    aligned = np.zeros((height, width), dtype=bool)
    part = mask[:height, :width]
    aligned[: part.shape[0], : part.shape[1]] = part
    return aligned, f"{sizes[0]} aligned at the origin of {sizes[1]}"


def _nearest(size: int, own_size: int) -> np.ndarray:
    """For each pixel along an axis of `size` the nearest one of `own_size` (pixel centres, so nothing shifts)."""
    return ((np.arange(size) + 0.5) * own_size / size).astype(int)
