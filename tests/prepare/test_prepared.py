"""Crops on disk, and the report."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from miram.errors import InputError
from miram.prepare.prepared import (
    GENERATED_MARKER,
    ReportRow,
    is_generated,
    read_png16,
    write_png16,
    write_report,
    write_volume,
)

from ..image_files import picture


def test_png_comes_back_exactly_and_holds_only_pixels(tmp_path: Path) -> None:
    write_png16(tmp_path / "new/a.png", picture())
    np.testing.assert_array_equal(read_png16(tmp_path / "new/a.png"), picture())
    with Image.open(tmp_path / "new/a.png") as image:
        assert (image.mode, image.info) == ("I;16", {})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint16)])
def test_other_arrays_are_no_png(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint16"):
        write_png16(tmp_path / "a.png", array)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_other_pngs_are_refused(tmp_path: Path) -> None:
    write_png16(tmp_path / "a.png", picture())
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    Image.fromarray(picture(8)).save(tmp_path / "b.png")
    for name, message in (("a.png", "cannot be read"), ("b.png", "not a gray 16-bit"), ("c.png", "cannot be read")):
        with pytest.raises(InputError, match=message):
            read_png16(tmp_path / name)


def test_volume_comes_back_exactly(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", picture(16, (8, 9, 10)), (0.5, 0.6, 2.0))
    volume: Any = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(volume.dataobj), picture(16, (8, 9, 10)))
    assert volume.get_data_dtype() == np.uint16
    assert volume.header.get_zooms() == pytest.approx((0.5, 0.6, 2.0))
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")


def test_report_has_a_line_a_row(tmp_path: Path) -> None:
    rows = [ReportRow("a.dcm", "crop", outputs=("x.png", "y.png")), ReportRow("b, c.txt", "skipped", "no image")]
    write_report(tmp_path / "report.csv", rows)
    with open(tmp_path / "report.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["outputs"] for line in lines] == ["x.png;y.png", ""]
    assert [line["source"] for line in lines] == ["a.dcm", "b, c.txt"]
    assert lines[1]["reason"] == "no image"


def test_a_status_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="'lost'"):
        ReportRow("a", "lost")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the generator leaves it, and links to what is in it."""
    (tmp_path / "cbis_ddsm/dicom/P_00001").mkdir(parents=True)
    (tmp_path / "cbis_ddsm" / GENERATED_MARKER).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link").symlink_to(tmp_path / "cbis_ddsm/dicom")
    return tmp_path


@pytest.mark.parametrize("name", ["cbis_ddsm", "cbis_ddsm/dicom", "elsewhere/link", "elsewhere/../cbis_ddsm/dicom"])
def test_the_marker_is_found_in_the_folder_and_above(folder: Path, name: str) -> None:
    assert is_generated(folder / name)
    assert is_generated(folder / "elsewhere", folder / name)


def test_other_folders_are_not_generated(folder: Path) -> None:
    assert not is_generated(folder, folder / "elsewhere")
    assert not is_generated()


def test_a_relative_folder_is_looked_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "cbis_ddsm/dicom")
    assert is_generated(".")
