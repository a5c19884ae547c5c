"""Random fields and thin soft strokes, of which tissue and lesions are drawn."""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy import ndimage


def power_law_field(
    shape: tuple[int, int],
    exponent: float,
    rng: np.random.Generator,
    finest: float = 2.0,
    coarsest: float = 1000.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """
    A Gaussian random field whose amplitude falls as 1 / frequency ** `exponent`, with mean 0 and standard deviation 1.

    Mammographic texture follows such a law, with an exponent of about 1.5 in amplitude (3 in power; Burgess, Jacobson
    and Judy, Med. Phys. 28, 2001).

    Args:
        exponent: of the amplitude.
        finest: wavelength in pixels below which structures fade out (at this wavelength, to 0.6 of the law).
        coarsest: the longest wavelength, in pixels, up to which the amplitude grows.
        stretch: how many times longer structures are along rows and columns.

    Returns:
        (H, W) float32.
    """
    step = int(finest // 3)  # a smooth field is drawn small and enlarged
    if step > 1:
        coarse = (shape[0] // step + 2, shape[1] // step + 2)
        return enlarge(power_law_field(coarse, exponent, rng, finest / step, coarsest / step, stretch), shape)
    padded = tuple(scipy.fft.next_fast_len(size, real=True) for size in shape)
    white = rng.standard_normal(padded, dtype=np.float32)
    rows = scipy.fft.fftfreq(padded[0]).astype(np.float32)[:, None] * stretch[0]
    columns = scipy.fft.rfftfreq(padded[1]).astype(np.float32)[None, :] * stretch[1]
    squared = rows**2 + columns**2
    falling = np.float32(exponent / 2) * np.log(squared + np.float32(coarsest**-2.0))
    weight = np.exp(-falling - squared * np.float32(finest**2 / 2))
    weight[0, 0] = 0
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * weight, padded)[: shape[0], : shape[1]]
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def ridges(field: np.ndarray, width: float) -> np.ndarray:
    """
    Thin bright lines along the zero crossings of a field, 1 on the line; a smaller `width` gives thinner lines.

    Such lines branch, join and end nowhere, like the strands of connective tissue.
    """
    return np.exp(-((field / np.float32(width)) ** 2))


def enlarge(coarse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge a smooth (h, w) map to `shape` by linear interpolation with aligned corners."""
    rows = np.linspace(0, coarse.shape[0] - 1, shape[0], dtype=np.float32)
    columns = np.linspace(0, coarse.shape[1] - 1, shape[1], dtype=np.float32)
    low = np.minimum(rows.astype(int), coarse.shape[0] - 2)
    part = (rows - low)[:, None]
    tall = coarse[low] * (1 - part) + coarse[low + 1] * part
    left = np.minimum(columns.astype(int), coarse.shape[1] - 2)
    part = (columns - left)[None, :]
    return (tall[:, left] * (1 - part) + tall[:, left + 1] * part).astype(np.float32)


def draw_curves(shape: tuple[int, int], points: np.ndarray, weights: np.ndarray | float, width: float) -> np.ndarray:
    """
    Draw dense points as soft strokes.

    Args:
        shape: (H, W) of the picture.
        points: (K, 2) rows and columns, about half a pixel apart along a stroke; points outside are ignored.
        weights: (K,) brightness of a stroke at its points, or one value for all.
        width: standard deviation of the stroke's profile, in pixels.

    Returns:
        (H, W) float32, about `weights` at the centre of a stroke.
    """
    weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), len(points))
    corner = np.floor(points).astype(int)
    part = points - corner
    canvas = np.zeros(shape[0] * shape[1])
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        place = corner + np.array([row, column])
        share = np.abs(1 - row - part[:, 0]) * np.abs(1 - column - part[:, 1]) * weights
        inside = np.all((place >= 0) & (place < shape), axis=1)
        canvas += np.bincount(place[inside] @ (shape[1], 1), share[inside], minlength=canvas.size)
    peak = np.sqrt(2 * np.pi * (width**2 + 0.25)) / 2  # two points per pixel, spread over its neighbours
    return ndimage.gaussian_filter(canvas.reshape(shape).astype(np.float32), width, truncate=3) * np.float32(peak)


def winding_curves(
    start: np.ndarray,
    heading: np.ndarray,
    lengths: np.ndarray,
    brightness: np.ndarray,
    bend: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Winding curves as dense points for :func:`draw_curves`, each fading in and out.

    Args:
        start: (K, 2) first points.
        heading: (K,) initial directions, radians from the columns' axis towards the rows'.
        lengths: (K,) in pixels.
        brightness: (K,) at the centre of a curve.
        bend: deviation of the direction along a curve, in radians.

    Returns:
        (N, 2) points half a pixel apart, and (N,) their brightness.
    """
    count = max(2, int(2 * lengths.max()))
    knots = np.cumsum(rng.standard_normal((len(start), 8)), axis=1) / np.sqrt(8)
    place = np.linspace(0, 6.999, count)
    low, part = place.astype(int), place % 1
    direction = heading[:, None] + bend * (knots[:, low] * (1 - part) + knots[:, low + 1] * part)
    steps = 0.5 * np.stack([np.sin(direction), np.cos(direction)], axis=-1)
    points = start[:, None] + np.cumsum(steps, axis=1)
    along = np.arange(count) / (2 * lengths[:, None])
    weights = brightness[:, None] * np.clip(4 * along, 0, 1) * np.clip(2 * (1 - along), 0, 1)
    return points[weights > 0], weights[weights > 0]
