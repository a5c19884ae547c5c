"""A short hash that stays nearly the same when an image is compressed, resized or brightened."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn

from miram.transforms.crops import resize_crop


def perceptual_hash(pixels: np.ndarray, side: int = 64, frequencies: int = 16) -> str:
    """
    Hash what an image shows: which of its low frequencies are above their median.

    This is pHash (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010) with 255 instead of
    64 bits, since mammograms resemble each other.

    Square roots are taken, so that all tissue counts and not only the brightest parts. The mean is excluded.

    Args:
        pixels: (H, W), or (H, W, D), of which the mean along the last axis is hashed; 0..65535.
        side: side of the small copy, in pixels.
        frequencies: number of frequencies along each axis.

    Returns:
        64 hexadecimal digits.
    """
    plane = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    small = np.sqrt(resize_crop(plane, side).astype(np.float32))
    coefficients = dctn(small, norm="ortho")[:frequencies, :frequencies].ravel()[1:]
    return np.packbits(coefficients > np.median(coefficients)).tobytes().hex()


def near_pairs(first: list[str], second: list[str], radius: int, block: int = 4096) -> list[tuple[int, int]]:
    """
    Find all pairs of hashes that differ in at most `radius` bits, by matrix products of -1 and 1.

    Args:
        first: hashes.
        second: hashes.
        radius: in bits.
        block: how many hashes of each list are compared at once.

    Returns:
        (index into `first`, index into `second`), in order.
    """
    pairs: list[tuple[int, int]] = []
    left, right = _signs(first), _signs(second)
    for row in range(0, len(left), block):
        for column in range(0, len(right), block):
            products = left[row : row + block] @ right[column : column + block].T  # 256 - 2 x differing bits: exact
            close = np.argwhere(products >= left.shape[1] - 2 * radius)
            pairs += [(row + int(one), column + int(other)) for one, other in close]
    return sorted(pairs)


def _signs(hashes: list[str]) -> np.ndarray:
    """(N, 256) float32 of -1 and 1."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
