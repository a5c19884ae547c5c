from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from miram.data.leakage import near_pairs, perceptual_hash
from miram.transforms.crops import resize_crop

from ..image_files import picture

SHAPE = (200, 160)


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return (int(perceptual_hash(first), 16) ^ int(perceptual_hash(second), 16)).bit_count()


def recompressed(pixels: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray((pixels >> 8).astype(np.uint8)).save(stream, format="JPEG", quality=50)
    return np.asarray(Image.open(stream)).astype(np.uint16) * 257


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda pixels: resize_crop(pixels, (100, 80)),
        lambda pixels: (pixels * 0.7).astype(np.uint16),
        lambda pixels: np.clip(pixels * 1.1 + 1000, 0, 65535).astype(np.uint16),
    ],
    ids=["recompressed", "half the size", "darker", "brighter"],
)
def test_copies_are_within_the_radius(change) -> None:
    for seed in range(20):
        original = picture(16, SHAPE, seed)
        assert distance(original, change(original)) <= 24


def test_other_images_are_far_beyond_the_radius() -> None:
    pictures = [picture(16, SHAPE, seed) for seed in range(30)]
    # 127 of 255 bits differ on average, with a deviation of 8
    assert min(distance(one, other) for one, other in combinations(pictures, 2)) > 70


def test_a_volume_is_hashed_by_its_mean_along_the_last_axis() -> None:
    volume = np.stack([picture(16, SHAPE)] * 3, axis=2)
    assert perceptual_hash(volume) == perceptual_hash(picture(16, SHAPE))


def test_all_pairs_within_the_radius_are_found_and_no_others() -> None:
    rng = np.random.default_rng(0)
    first = [rng.bytes(32) for _ in range(10)]
    flipped = bytearray(first[7])
    flipped[0] ^= 0b1011
    second = [rng.bytes(32), bytes(flipped), first[2]]
    hexadecimal = [[value.hex() for value in side] for side in (first, second)]
    assert near_pairs(*hexadecimal, radius=2) == [(2, 2)]
    assert near_pairs(*hexadecimal, radius=3) == [(2, 2), (7, 1)]
