"""Windows, resizing, and where the tissue is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from miram.transforms.crops import breast_mask, crop_at, cut_lesion, resize_crop, scaled_size, tissue_centers

from ..image_files import boxed, gray, picture


@pytest.fixture
def mammogram() -> tuple[np.ndarray, np.ndarray]:
    """A breast on the left with noisy air and a bright label, 600 x 500; and where the breast is."""
    rows, columns = np.mgrid[:600, :500]
    breast = ((rows - 300) / 220) ** 2 + (columns / 260) ** 2 < 1
    image = np.where(breast, 20_000 + picture(14, (600, 500)), 0).astype(float)
    image += np.random.default_rng(1).uniform(0, 300, image.shape)
    image[40:70, 400:460] = 65535
    return image.astype(np.uint16), breast


@pytest.mark.parametrize(("center", "start"), [((10, 10), (8, 8)), ((0, 19), (0, 15)), ((30, -5), (25, 0))])
def test_a_window_is_shifted_inside(center: tuple[int, int], start: tuple[int, int]) -> None:
    image = picture(16, (30, 20))
    expected = image[start[0] : start[0] + 5, start[1] : start[1] + 5]
    np.testing.assert_array_equal(crop_at(image, center, 5), expected)


def test_a_small_image_lies_in_the_middle_of_zeros() -> None:
    image = np.ones((3, 10), np.uint16)
    crop = crop_at(image, (1, 5), (6, 4))
    assert crop.dtype == np.uint16
    np.testing.assert_array_equal(crop, np.pad(np.ones((3, 4)), ((1, 2), (0, 0))))


def test_a_crop_is_a_copy() -> None:
    image = np.zeros((4, 4), np.uint16)
    crop_at(image, (2, 2), 4)[:] = 7
    assert image.max() == 0


def test_resizing_keeps_a_constant_and_the_mean() -> None:
    assert (resize_crop(np.full((50, 40), 65535, np.uint16), 16) == 65535).all()
    image = picture(16, (256, 256))
    # A quarter of the pixels of a smooth picture: the mean moves by the edges' weights only.
    assert resize_crop(image, 64).mean() == pytest.approx(image.mean(), rel=5e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_resizing_is_anti_aliased_along_every_axis(axis: int) -> None:
    stripes = np.zeros((32, 32, 32), np.uint16)
    np.moveaxis(stripes, axis, 0)[::2] = 60_000
    small = resize_crop(stripes, 8)
    # Stripes of one pixel become their mean; single pixels would be 0 or 60,000. At the edges one stripe weighs more.
    inner = np.moveaxis(small, axis, 0)[1:-1]
    assert np.abs(inner.astype(int) - 30_000).max() < 1_000


def test_resizing_a_volume_is_resizing_its_planes() -> None:
    plane = picture(16, (40, 30))
    volume = np.repeat(plane[:, :, None], 6, axis=2)
    resized = resize_crop(volume, (20, 15, 3))
    assert resized.shape == (20, 15, 3)
    # The second pass interpolates equal slices: rounding only.
    np.testing.assert_allclose(resized[..., 1], resize_crop(plane, (20, 15)), atol=1)


def test_the_mask_is_the_breast_without_label_and_air(mammogram: tuple[np.ndarray, np.ndarray]) -> None:
    image, breast = mammogram
    mask = breast_mask(image)
    overlap = (mask & breast).sum() / (mask | breast).sum()
    assert overlap > 0.98  # the outline is found on a copy of 512 pixels, to one of its pixels
    assert not mask[40:70, 400:460].any()


def test_a_constant_image_has_no_breast() -> None:
    assert not breast_mask(np.full((64, 64), 500, np.uint16)).any()


def test_a_body_in_a_volume() -> None:
    body = np.linalg.norm(np.indices((40, 36, 30)) - np.array([20, 18, 15]).reshape(3, 1, 1, 1), axis=0) < 11
    mask = breast_mask((body * 30_000).astype(np.uint16))
    assert (mask & body).sum() / (mask | body).sum() > 0.95


def test_windows_lie_inside_and_hold_tissue(mammogram: tuple[np.ndarray, np.ndarray]) -> None:
    _, breast = mammogram
    centers = tissue_centers(breast, 40, 64, np.random.default_rng(0), min_tissue=0.7)
    assert len(set(centers)) == 40
    for row, column in centers:
        window = breast[row - 32 : row + 32, column - 32 : column + 32]
        assert window.shape == (64, 64)
        assert window.mean() >= 0.7
        np.testing.assert_array_equal(crop_at(breast, (row, column), 64), window)


def test_windows_reach_all_of_the_tissue(mammogram: tuple[np.ndarray, np.ndarray]) -> None:
    _, breast = mammogram
    covered = np.zeros_like(breast)
    for row, column in tissue_centers(breast, 300, 64, np.random.default_rng(0)):
        covered[row - 32 : row + 32, column - 32 : column + 32] = True
    assert covered[breast].mean() > 0.97


def test_windows_are_seeded(mammogram: tuple[np.ndarray, np.ndarray]) -> None:
    draws = [tissue_centers(mammogram[1], 5, 64, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_a_breast_narrower_than_a_window_gives_the_fullest_windows() -> None:
    mask = np.zeros((400, 300), bool)
    mask[:, :20] = True
    centers = tissue_centers(mask, 4, 100, np.random.default_rng(0))
    assert len(centers) == 4
    assert all(column == 50 for _, column in centers)


@pytest.mark.parametrize("shape", [(30, 400), (400, 30)])
def test_an_image_thinner_than_a_window_gives_as_many_as_another(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[:250, :250] = True
    centers = tissue_centers(mask, 40, 100, np.random.default_rng(0), min_tissue=0.9)
    assert len(set(centers)) == 40
    along = [max(center) for center in centers]
    assert min(along) < 100
    assert max(along) <= 250 - 0.9 * 100 + 50, "at least 90 of 100 pixels of the window hold tissue"


def test_no_tissue_gives_no_window() -> None:
    assert tissue_centers(np.zeros((100, 100), bool), 4, 32, np.random.default_rng(0)) == []


@pytest.mark.parametrize("size", [15, 16])
def test_volume_windows(size: int) -> None:
    mask = ndimage.binary_dilation(np.eye(40, dtype=bool)[..., None] & np.ones(30, bool), iterations=6)
    centers = tissue_centers(mask, 10, size, np.random.default_rng(0), min_tissue=0.6)
    assert len(centers) == 10
    assert min(crop_at(mask, center, size).mean() for center in centers) >= 0.6


def test_a_size_is_scaled_along_each_axis() -> None:
    assert scaled_size([224, 96], 0.0625) == [14, 6]


def test_windows_of_tissue_avoid_what_they_are_told_to() -> None:
    tissue, lesion = np.ones((100, 100), bool), np.zeros((100, 100), bool)
    lesion[40:60, 40:60] = True
    centers = tissue_centers(tissue, 50, 30, np.random.default_rng(0), avoid=lesion)
    assert len(centers) == 50
    assert not any(lesion[row - 15 : row + 15, column - 15 : column + 15].any() for row, column in centers)
    assert tissue_centers(tissue, 5, 60, np.random.default_rng(0), avoid=lesion) == []


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
