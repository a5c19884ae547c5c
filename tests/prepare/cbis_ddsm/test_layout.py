from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm import layout
from miram.prepare.cbis_ddsm.layout import DicomFile, MaskFiles, fit_mask, scan_dicom
from miram.prepare.cbis_ddsm.tables import read_tables

from ...image_files import boxed, gray


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


def find_mask(paths: list[Path], shape: tuple[int, int], tolerance: float) -> tuple[np.ndarray, str]:
    files = tuple(DicomFile(path.name, 1, 1) for path in paths)
    return MaskFiles(paths[0].parent, "full.dcm", files, tolerance).mask(shape)


@pytest.fixture
def write(tmp_path: Path, dicom_writer: Any) -> Any:
    """Writes an array as a DICOM file of that name, and returns its path."""

    def write_one(name: str, pixels: np.ndarray) -> Path:
        dicom_writer(tmp_path / name, pixels, "1.2.3")
        return tmp_path / name

    return write_one


@pytest.mark.parametrize("mask_first", [False, True])
def test_mask_is_told_by_content(write: Any, mask_first: bool) -> None:
    mask = boxed((40, 30), (5, 12, 8, 20))
    paths = [write("a.dcm", gray((7, 12))), write("b.dcm", mask)]
    found, note = find_mask(paths[::-1] if mask_first else paths, (40, 30), 0.05)
    assert found.dtype == bool
    assert np.array_equal(found, mask == 255)
    assert note == ""


def test_a_crop_as_large_as_the_mammogram_is_no_mask(write: Any) -> None:
    mask = boxed((40, 30), (0, 40, 0, 29))
    found, _ = find_mask([write("a.dcm", gray((40, 30))), write("b.dcm", mask)], (40, 30), 0.05)
    assert np.array_equal(found, mask == 255)


@pytest.mark.parametrize("shape", [(4386, 1789), (43, 17), (38, 16)])
def test_mask_at_another_resolution_is_resized(write: Any, shape: tuple[int, int]) -> None:
    """50 micrometres a pixel, where the mammogram has 43.5: the sizes of a published pair, and small ones."""
    full = round(shape[0] * 50 / 43.5), round(shape[1] * 50 / 43.5)
    own = boxed(shape, (shape[0] // 2, shape[0] * 3 // 4, shape[1] // 4, shape[1] // 2))
    found, note = find_mask([write("a.dcm", own)], full, 0.0)
    assert note == f"mask of {shape[0]} x {shape[1]} resized to {full[0]} x {full[1]} pixels"
    before, after = np.argwhere(own == 255), np.argwhere(found)
    assert np.allclose(after[0] / full, before[0] / shape, atol=1 / shape[1]), "to a pixel of the mask"
    assert np.allclose((after[-1] + 1) / full, (before[-1] + 1) / shape, atol=1 / shape[1])


def test_published_size_pair_is_resized_not_aligned() -> None:
    own = np.zeros((4386, 1789), bool)
    own[4000:4200, 1500:1600] = True
    found, _ = fit_mask(Path("a.dcm"), own, (5041, 2056), 0.05)
    middle = np.argwhere(found).mean(axis=0)
    assert np.allclose(middle, np.array([4100, 1550]) * 50 / 43.5, atol=2.0), "sizes are rounded to pixels"


@pytest.mark.parametrize("shape", [(395, 300), (400, 291), (391, 299), (409, 300)])
def test_mask_of_nearly_the_proportions_is_aligned_at_the_origin(write: Any, shape: tuple[int, int]) -> None:
    found, note = find_mask([write("a.dcm", boxed(shape, (50, 120, 80, 200)))], (400, 300), 0.05)
    assert np.array_equal(found, boxed((400, 300), (50, 120, 80, 200)) == 255)
    assert note == f"mask of {shape[0]} x {shape[1]} aligned at the origin of 400 x 300 pixels"


def test_lesion_that_is_aligned_out_of_the_mammogram_is_refused(write: Any) -> None:
    path = write("a.dcm", boxed((410, 300), (402, 408, 80, 200)))
    with pytest.raises(InputError, match=r"a\.dcm has its lesion outside the mammogram: mask of 410 x 300 aligned"):
        find_mask([path], (400, 300), 0.05)


def test_mask_of_other_proportions_is_refused(write: Any) -> None:
    path = write("a.dcm", boxed((20, 25), (5, 12, 8, 12)))
    with pytest.raises(InputError, match=r"a\.dcm is a mask of 20 x 25 pixels, the mammogram has 40 x 30"):
        find_mask([path], (40, 30), 0.05)
    assert find_mask([path], (40, 30), 0.5)[0].shape == (40, 30)


def test_empty_masks_and_gray_images_are_refused_with_reasons(write: Any) -> None:
    paths = [write("a.dcm", np.zeros((40, 30), np.uint8)), write("b.dcm", gray((40, 30)))]
    with pytest.raises(InputError, match=r"a\.dcm is empty.*b\.dcm has more than two values"):
        find_mask(paths, (40, 30), 0.05)


def test_an_unreadable_file_beside_the_mask_does_no_harm(write: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"")
    mask = boxed((40, 30), (5, 12, 8, 20))
    assert find_mask([tmp_path / "broken.dcm", write("b.dcm", mask)], (40, 30), 0.05)[0].sum() == 7 * 12
    with pytest.raises(InputError, match="broken"):
        find_mask([tmp_path / "broken.dcm"], (40, 30), 0.05)


def test_a_replaced_file_and_another_tolerance_change_the_key() -> None:
    def key(modified: int, tolerance: float) -> list[Any]:
        return MaskFiles(Path("in"), "full.dcm", (DicomFile("a.dcm", 1, modified),), tolerance).key

    assert key(1, 0.05) == key(1, 0.05)
    assert len({repr(key(modified, tolerance)) for modified in (1, 2) for tolerance in (0.05, 0.1)}) == 4
