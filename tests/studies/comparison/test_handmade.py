"""Hand-made features do not change when the lesion is turned, and see what they are meant to see."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from miram.prepare.prepared import write_png16
from studies.comparison.handmade import describe, handmade_features

RAYS = slice(27 + 60, 27 + 60 + 72)  # behind intensities and bands


@pytest.fixture
def texture() -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(0).normal(size=(65, 65)), 1.5)
    return ((field - field.min()) / np.ptp(field) * 255).astype(np.float32)


def test_a_turned_or_mirrored_lesion_has_the_same_features(texture: np.ndarray) -> None:
    expected = describe(texture)
    assert expected.shape == (249,)
    assert np.isfinite(expected).all()
    for other in (np.rot90(texture), texture[::-1], texture.T):
        np.testing.assert_allclose(describe(np.ascontiguousarray(other)), expected, rtol=1e-3, atol=1e-3)


def test_features_of_brightness_and_those_of_texture(texture: np.ndarray) -> None:
    """Twice the contrast: twice the deviation and the gradients, and the same patterns."""
    one, two = describe(texture), describe(2 * texture)
    np.testing.assert_allclose(two[:27], 2 * one[:27], rtol=1e-4)
    np.testing.assert_allclose(two[-90:], one[-90:], atol=1e-3)
    assert one[-90:].reshape(3, 10, 3).sum(axis=1) == pytest.approx(np.ones((3, 3)))


def test_rays_and_circles_around_the_centre_differ_in_their_directions() -> None:
    """A circle's gradients point along the radius (+1), those of rays across it (-1)."""
    y, x = np.mgrid[-40:41, -40:41]
    circles = describe(128 + 100 * np.cos(np.hypot(y, x) / 3).astype(np.float32))
    rays = describe(128 + 100 * np.cos(8 * np.arctan2(y, x)).astype(np.float32))
    preference = [found[RAYS].reshape(3, 4, 6)[0, 1, 2:5] for found in (circles, rays)]
    assert preference[0].min() > 0.9
    assert preference[1].max() < -0.9


def test_the_centre_is_that_of_the_mask_and_files_are_read_once(texture: np.ndarray, tmp_path: Path) -> None:
    mask = np.zeros((65, 65), np.uint16)
    mask[10:21, 30:41] = 65535
    for name, pixels in (("image", texture * 257), ("mask", mask)):
        write_png16(tmp_path / f"{name}.png", pixels.astype(np.uint16))
    item = {"image": str(tmp_path / "image.png"), "mask": str(tmp_path / "mask.png")}
    found = handmade_features([item, {**item, "mask": None}])
    stored = (texture * 257).astype(np.uint16) / np.float32(257)
    np.testing.assert_allclose(found[0], describe(stored, (15, 35)), rtol=1e-5)
    np.testing.assert_allclose(found[1], describe(stored), rtol=1e-5)
    os.link(tmp_path / "image.png", tmp_path / "linked.png")
    (tmp_path / "image.png").unlink()
    assert handmade_features([{"image": str(tmp_path / "linked.png")}]).tolist() == found[1:].tolist()
