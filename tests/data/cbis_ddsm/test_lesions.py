from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miram.data.cbis_ddsm.lesions import CropSettings, cut_lesion, find_mask
from miram.errors import InputError


@pytest.fixture
def write(tmp_path: Path, dicom_writer: Any) -> Any:
    """Writes an array as a DICOM file of that name, and returns its path."""

    def write_one(name: str, pixels: np.ndarray) -> Path:
        dicom_writer(tmp_path / name, pixels, "1.2.3")
        return tmp_path / name

    return write_one


def gray(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65535, shape).astype(np.uint16)


def boxed(shape: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


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


@pytest.mark.parametrize("shape", [(39, 30), (40, 29), (38, 29), (41, 30)])
def test_mask_of_nearly_the_size_is_aligned_at_the_origin(write: Any, shape: tuple[int, int]) -> None:
    mask = boxed(shape, (5, 12, 8, 20))
    found, note = find_mask([write("a.dcm", mask)], (40, 30), 0.05)
    assert np.array_equal(found, boxed((40, 30), (5, 12, 8, 20)) == 255)
    assert note == f"mask of {shape[0]} x {shape[1]} aligned to 40 x 30 pixels"


def test_mask_of_another_size_is_refused(write: Any) -> None:
    path = write("a.dcm", boxed((20, 15), (5, 12, 8, 12)))
    with pytest.raises(InputError, match=r"a\.dcm is a mask of 20 x 15 pixels, the mammogram has 40 x 30"):
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


def test_small_lesion_is_cut_at_native_resolution() -> None:
    image, mask = gray((100, 90)), boxed((100, 90), (40, 50, 30, 44)) == 255
    crop, crop_mask, zoom = cut_lesion(image, mask, crop_size=32, context=1.5)
    assert zoom == 1.0
    assert np.array_equal(crop, image[29:61, 21:53]), "32 pixels around row 45, column 37"
    assert np.array_equal(crop_mask == 65535, mask[29:61, 21:53])
    assert crop_mask.dtype == np.uint16
    assert set(np.unique(crop_mask)) == {0, 65535}


def test_large_lesion_is_reduced_with_context() -> None:
    image = np.full((200, 200), 1000, np.uint16)
    mask = boxed((200, 200), (60, 140, 80, 120)) == 255
    crop, crop_mask, zoom = cut_lesion(image, mask, crop_size=30, context=1.5)
    assert zoom == 0.25, "30 pixels show 1.5 x 80"
    assert crop.shape == crop_mask.shape == (30, 30)
    assert np.all(crop == 1000)
    assert int((crop_mask == 65535).sum()) == 20 * 10


def test_lesion_at_the_edge_keeps_the_crop_inside() -> None:
    image, mask = gray((100, 90)), boxed((100, 90), (0, 8, 84, 90)) == 255
    crop, crop_mask, _ = cut_lesion(image, mask, crop_size=32, context=1.5)
    assert np.array_equal(crop, image[:32, 58:])
    assert int((crop_mask == 65535).sum()) == 8 * 6


def test_image_smaller_than_the_crop_is_padded() -> None:
    image, mask = gray((20, 24)), boxed((20, 24), (4, 9, 5, 9)) == 255
    crop, crop_mask, zoom = cut_lesion(image, mask, crop_size=32, context=1.5)
    assert crop.shape == (32, 32)
    assert zoom == 1.0
    assert crop.sum(dtype=np.int64) == image.sum(dtype=np.int64)
    assert int((crop_mask == 65535).sum()) == 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crops", "lesions"),
        ("crop_size", 8),
        ("context", 0.5),
        ("crops_per_image", 0),
        ("mask_tolerance", -0.1),
        ("seed", -1),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} is "):
        CropSettings(**{name: value})
