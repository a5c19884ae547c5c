from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm import layout
from miram.prepare.cbis_ddsm.layout import scan_dicom
from miram.prepare.cbis_ddsm.tables import read_tables


def scan(miniature: Any) -> layout.DicomIndex:
    return scan_dicom(miniature.dicom_dir, miniature.output_dir / "files.json")


@pytest.mark.parametrize("kind", ["classic", "descriptive", "idc"])
@pytest.mark.parametrize("separate", [False, True])
def test_series_are_found_in_any_layout(miniature: Any, kind: str, separate: bool) -> None:
    paths = miniature.add(layout=kind, separate=separate)
    miniature.write_tables()
    row = read_tables(miniature.csv_dir)[0]
    index = scan(miniature)
    assert [miniature.dicom_dir / file.path for file in index.files(row.image_series)] == [paths["image"]]
    found = [miniature.dicom_dir / file.path for file in index.files(*row.lesion_series)]
    assert found == [paths["mask"], paths["crop"]], "the larger image, which the mask is, comes first"
    assert index.missing(row.image_series, *row.lesion_series) == ""


def test_other_files_are_left_alone(miniature: Any) -> None:
    miniature.add()
    (miniature.dicom_dir / "LICENSE").write_text("CC BY 3.0")
    (miniature.dicom_dir / "metadata.csv").write_text("a,b")
    index = scan(miniature)
    assert len(index.series) == 2
    assert index.unreadable == []


def test_hidden_folders_are_left_alone(miniature: Any) -> None:
    paths = miniature.add()
    hidden = miniature.dicom_dir / ".unfinished"
    hidden.mkdir()
    paths["image"].rename(hidden / "000000.dcm")
    assert len(scan(miniature).series) == 1


def test_linked_folders_are_followed(miniature: Any) -> None:
    paths = miniature.add()
    outside = miniature.dicom_dir.parent / "elsewhere"
    paths["image"].parent.rename(outside)
    paths["image"].parent.symlink_to(outside, target_is_directory=True)
    (outside / "loop").symlink_to(miniature.dicom_dir, target_is_directory=True)
    assert len(scan(miniature).series) == 2


def test_links_that_lead_nowhere_are_told_of_where_they_are_needed(
    miniature: Any, caplog: pytest.LogCaptureFixture
) -> None:
    paths = miniature.add()
    miniature.write_tables()
    paths["image"].unlink()
    paths["image"].symlink_to("nowhere.dcm")
    index = scan(miniature)
    row = read_tables(miniature.csv_dir)[0]
    name = paths["image"].relative_to(miniature.dicom_dir).as_posix()
    assert index.missing(row.image_series).startswith(f"{name}: a link that leads nowhere")
    assert index.missing("1.2.3").startswith(f"no file of series 1.2.3 (it may be behind {name}: a link that")
    assert "a link that leads nowhere" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM" + b"\x08\0", b"no DICOM at all"])
def test_broken_files_are_told_of_where_they_are_needed(miniature: Any, content: bytes) -> None:
    paths = miniature.add()
    miniature.add(view="MLO")
    miniature.write_tables()
    paths["image"].write_bytes(content)
    index = scan(miniature)
    row = read_tables(miniature.csv_dir)[0]
    broken = paths["image"].relative_to(miniature.dicom_dir).as_posix()
    assert index.unreadable == [broken]
    assert index.missing(row.image_series) == f"{broken} is not a readable DICOM file"
    assert index.missing("1.2.3") == "no file of series 1.2.3"


def test_second_scan_opens_new_and_changed_files_only(miniature: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    miniature.add()
    first = scan(miniature)
    opened: list[str] = []
    read = layout._read_header

    def count_and_read(root: Path, file: layout.DicomFile) -> layout.DicomFile:
        opened.append(file.path)
        return read(root, file)

    monkeypatch.setattr(layout, "_read_header", count_and_read)
    assert scan(miniature) == first
    assert opened == []
    new = miniature.add(view="MLO")
    changed = next(iter(first.series.values()))[0]
    (miniature.dicom_dir / changed.path).touch()
    index = scan(miniature)
    expected = [path.relative_to(miniature.dicom_dir).as_posix() for path in new.values()]
    assert sorted(opened) == sorted([*expected, changed.path])
    assert len(index.series) == 4


def test_removed_files_leave_the_index(miniature: Any) -> None:
    paths = miniature.add()
    scan(miniature)
    paths["image"].unlink()
    assert len(scan(miniature).series) == 1


@pytest.mark.parametrize("text", ["not json", "[[1]]", json.dumps({"a": 1}), "[1]"])
def test_a_useless_cache_is_read_over(miniature: Any, text: str) -> None:
    miniature.add()
    miniature.output_dir.mkdir()
    (miniature.output_dir / "files.json").write_text(text)
    assert len(scan(miniature).series) == 2


def test_no_folder_and_no_dicom_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        scan_dicom(tmp_path / "absent", tmp_path / "cache.json")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no DICOM file among its 1 files"):
        scan_dicom(tmp_path, tmp_path / "state" / "cache.json")
    assert not (tmp_path / "state").exists()
