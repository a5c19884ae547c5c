"""Hand-made features of a lesion that do not change when the image is turned: what a network has to beat."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from miram.data.datalist import Item

# Shares of half the crop's side; at 160 pixels 6, 12, 18 ... and 10, 20, 32 ... pixels from the lesion's centre.
_PROFILE = (0, 0.075, 0.15, 0.225, 0.3, 0.375, 0.45, 0.55, 0.65, 0.8, 1)
_RINGS = (0, 0.125, 0.25, 0.4, 0.6, 0.8, 1.125)
_WIDE_RINGS = (0, 0.3, 0.6, 1.125)
_BANDS = (0.7, 1.4, 2.8, 5.6, 11.2)  # pixels, standard deviations of the filters
_GRADIENTS = (1.0, 2.0, 4.0)
_PATTERNS = ((0.0, 1), (1.0, 2), (2.0, 4))  # standard deviation of the filter, and radius of the circle, in pixels

# Features by the identity of their files: the folds of a comparison hold the same files under several paths.
_known: dict[tuple[int, ...], np.ndarray] = {}


def handmade_features(items: Sequence[Item]) -> np.ndarray:
    """
    Describe lesions by the classical features of radiomics, in rings around their centres.

    Args:
        items: items with absolute paths of images and, if there are any, of lesion masks: the middle of the mask's
            bounding box is the centre, otherwise that of the crop.

    Returns:
        (N, 249): intensities (7 statistics, and mean and deviation in 10 rings); energies of 5 bands of frequency in 6
        rings (differences of Gaussian filters); gradients relative to the direction to the centre, in 6 rings at 3
        scales, which show spicules; and local binary patterns (Ojala et al., doi 10.1109/TPAMI.2002.1017623: 10 uniform
        ones that do not change when turned) at 3 radii in 3 rings.
    """
    return np.stack([_features_of(item) for item in items])


def _features_of(item: Item) -> np.ndarray:
    paths = [item[key] for key in ("image", "mask") if item.get(key) is not None]
    states = [Path(path).stat() for path in paths]
    key = tuple(number for state in states for number in (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size))
    if key not in _known:
        pixels, *mask = (_read(path) for path in paths)
        _known[key] = describe(pixels, _centre(mask[0]) if mask else None)
    return _known[key]


def _read(path: str) -> np.ndarray:
    """Pixels from 0 to 255, as the fractions of 16 bits."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32) / 257


def _centre(mask: np.ndarray) -> tuple[float, float] | None:
    """The middle of a mask's bounding box."""
    rows, columns = np.nonzero(mask)
    return ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2) if rows.size else None


def describe(pixels: np.ndarray, centre: tuple[float, float] | None = None) -> np.ndarray:
    """
    The features of one crop.

    Args:
        pixels: (H, W), from 0 to 255.
        centre: of the lesion, row and column; by default the middle of the crop.

    Returns:
        (249,), see :func:`handmade_features`.
    """
    middle = [(side - 1) / 2 for side in pixels.shape] if centre is None else centre
    y, x = (np.arange(side) - at for side, at in zip(pixels.shape, middle, strict=True))
    distance = np.hypot(y[:, None], x[None]) / (min(pixels.shape) / 2)
    direction = np.where(distance == 0, np.nan, np.arctan2(y[:, None], x[None]))  # the centre has none
    parts = [
        _statistics(pixels[distance < 0.9]),
        *_moments(pixels, _Rings(distance, _PROFILE)),
        *_band_energies(pixels, _Rings(distance, _RINGS)),
        *_directions(pixels, direction, _Rings(distance, _RINGS)),
        *_pattern_shares(pixels, _Rings(distance, _WIDE_RINGS)),
    ]
    return np.concatenate(parts)


class _Rings:
    """Means over the pixels between one distance from the centre and the next; 0 in a ring without pixels."""

    def __init__(self, distance: np.ndarray, edges: Sequence[float]) -> None:
        self.count = len(edges) - 1
        inside = distance.ravel() < edges[-1]
        self.inside = np.flatnonzero(inside)
        self.ring = np.digitize(distance.ravel()[self.inside], edges) - 1
        self.sizes = np.maximum(np.bincount(self.ring, minlength=self.count), 1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(R,) means of values (H, W)."""
        return np.bincount(self.ring, values.ravel()[self.inside], minlength=self.count) / self.sizes


def _statistics(values: np.ndarray) -> np.ndarray:
    return np.array([values.mean(), values.std(), *np.percentile(values, [5, 25, 50, 75, 95])])


def _moments(values: np.ndarray, rings: _Rings) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in each ring."""
    mean = rings.mean(values)
    return mean, np.sqrt(np.maximum(rings.mean(np.square(values, dtype=np.float64)) - mean**2, 0))


def _band_energies(pixels: np.ndarray, rings: _Rings) -> list[np.ndarray]:
    """Logarithms of mean and deviation of each band's absolute values."""
    smooth = [pixels, *(gaussian_filter(pixels, sigma) for sigma in _BANDS)]
    bands = [np.abs(fine - coarse) for fine, coarse in itertools.pairwise(smooth)]
    return [np.log1p(part) for band in bands for part in _moments(band, rings)]


def _directions(pixels: np.ndarray, direction: np.ndarray, rings: _Rings) -> list[np.ndarray]:
    """Strength of gradients, how much of it points outwards, and how far it prefers two or four directions."""
    parts = []
    for sigma in _GRADIENTS:
        down, right = (gaussian_filter(pixels, sigma, order=order) for order in ((1, 0), (0, 1)))
        angle = np.arctan2(down, right) - direction
        strength = np.where(np.isnan(angle), 0, np.hypot(down, right))
        angle = np.nan_to_num(angle)
        mean = rings.mean(strength)
        shares = [rings.mean(strength * np.cos(times * angle)) / (mean + 1e-3) for times in (2, 4)]
        parts += [rings.mean(strength * np.cos(angle)), *shares, np.log1p(mean)]
    return parts


def _pattern_shares(pixels: np.ndarray, rings: _Rings) -> list[np.ndarray]:
    """How frequent each pattern is in each ring."""
    parts = []
    for sigma, radius in _PATTERNS:
        patterns = _uniform_patterns(gaussian_filter(pixels, sigma) if sigma else pixels, radius)
        parts += [rings.mean(patterns == pattern) for pattern in range(10)]
    return parts


def _uniform_patterns(pixels: np.ndarray, radius: int) -> np.ndarray:
    """
    The number of the 8 neighbours on a circle that are brighter, 0 to 8; 9 where they change more than twice around it.
    """
    angles = np.arange(8) * np.pi / 4
    steps = np.round(radius * np.stack([np.sin(angles), np.cos(angles)])).astype(int).T
    padded = np.pad(pixels, radius, mode="edge")
    height, width = pixels.shape
    neighbours = (
        padded[radius + down : radius + down + height, radius + right : radius + right + width] for down, right in steps
    )
    brighter = np.stack([neighbour > pixels for neighbour in neighbours])
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, brighter.sum(axis=0), 9)
