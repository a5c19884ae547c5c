from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.lesions import CropSettings
from miram.transforms.crops import cut_lesion

from ...image_files import boxed, gray


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
    with pytest.raises(InputError, match=f"^--{name} is "):
        CropSettings(**{name: value})
