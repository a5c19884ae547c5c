"""Which series of the Imaging Data Commons the tables of CBIS-DDSM name, and their download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miram.errors import InputError
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables
from miram.prepare.idc import Series, check_space, download_series, is_complete, read_index

PARTS = ("all", "full", "lesions")


@dataclass(frozen=True)
class DownloadPlan:
    """
    What a download takes.

    Args:
        wanted: the series that the tables name and the IDC has.
        left: those of them that are not on disk yet.
        unknown: UIDs that the tables name and the IDC has not.
    """

    wanted: list[Series]
    left: list[Series]
    unknown: list[str]

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
        index_csv: see :func:`miram.prepare.idc.read_index`.

    Raises:
        InputError: if `what` is another word, or the tables or the index are wrong.
    """
    if what not in PARTS:
        raise InputError(f"what is {what!r}; give one of {', '.join(PARTS)}")
    uids = named_series(read_tables(csv_dir), what)
    index = read_index("cbis_ddsm", index_csv)
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
