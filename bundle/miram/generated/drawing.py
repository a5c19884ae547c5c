"""Thin soft strokes: strands, vessels, spicules, linear calcifications."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


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
        rng: the source of randomness.

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
