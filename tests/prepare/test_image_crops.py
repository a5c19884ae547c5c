"""One image to its crops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miram.errors import InputError
from miram.prepare.image_crops import CropSettings, cut
from miram.transforms.crops import resize_crop

from ..image_files import picture


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "size"), [((96, 80), 32), ((40, 36, 30), 16)])
def test_tissue_windows_are_pixels_of_the_image(shape: tuple[int, ...], size: int) -> None:
    pixels = picture(16, shape)
    crops = [window.pixels for window in cut(pixels, CropSettings(crop_size=size, crops_per_image=5), rng())]
    assert len(crops) == 5
    windows: Any = np.lib.stride_tricks.sliding_window_view(pixels, (size,) * len(shape))
    corner = (0,) * len(shape)
    for crop in crops:
        candidates = np.argwhere(windows[(..., *corner)] == crop[corner])
        assert any((windows[tuple(start)] == crop).all() for start in candidates)


@pytest.mark.parametrize("crops", ["tissue", "whole"])
def test_an_image_no_larger_than_a_crop_is_padded(crops: str) -> None:
    pixels = picture(16, (20, 32))
    (crop,) = cut(pixels, CropSettings(crops=crops, crop_size=32), rng())
    np.testing.assert_array_equal(crop.pixels, np.pad(pixels, ((6, 6), (0, 0))))


def test_whole_images_keep_their_proportions() -> None:
    pixels = picture(16, (100, 50))
    (crop,) = cut(pixels, CropSettings(crops="whole", crop_size=40), rng())
    np.testing.assert_array_equal(crop.pixels, np.pad(resize_crop(pixels, (40, 20)), ((0, 0), (10, 10))))


def test_sizes_differ_by_dimensions_unless_given() -> None:
    assert [CropSettings().size(2), CropSettings().size(3), CropSettings(crop_size=7).size(3)] == [512, 96, 7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crops": "random"}, "tissue, whole"),
        ({"crop_size": 0}, "positive"),
        ({"crops_per_image": 0}, "positive"),
        ({"min_tissue": 0.0}, "min_tissue"),
        ({"spatial_dims": 4}, "2 or 3"),
        ({"intensity": "log"}, "intensity"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CropSettings(**wrong)
