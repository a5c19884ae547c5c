from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.layout import DicomFile
from miram.prepare.cbis_ddsm.masks import MaskFiles, fit_mask

from ...image_files import boxed, gray


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
