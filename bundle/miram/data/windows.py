"""Overlapping windows along the axes of an image, and what is highest in a map that was made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class WindowAxis:
    """
    Where windows lie along one axis of an image.

    Args:
        length: of the image, in pixels.
        width: of a window, in pixels.
        stride: pixels between the centres of two windows, at most.
        starts: first pixel of each window in the padded image, rising.
        padding: pixels of air before and behind an image that is smaller than a window.
    """

    length: int
    width: int
    stride: int
    starts: np.ndarray
    padding: tuple[int, int]

    @classmethod
    def of(cls, length: int, width: int, stride: int) -> WindowAxis:
        """Windows at even distances of at most `stride`, the first and the last at the edges."""
        spare, missing = max(length - width, 0), max(width - length, 0)
        count = math.ceil(spare / stride) + 1
        starts = np.rint(np.linspace(0, spare, count)).astype(int)
        return cls(length, width, stride, starts, (missing // 2, missing - missing // 2))

    @property
    def centers(self) -> np.ndarray:
        """The middle of each window, in pixels of the image, from 0 in the middle of the first."""
        return self.starts - self.padding[0] + (self.width - 1) / 2

    def window(self, index: int) -> slice:
        """A window of the padded image."""
        return slice(int(self.starts[index]), int(self.starts[index]) + self.width)

    @property
    def cells(self) -> np.ndarray:
        """For each window, the first of the pixels that are nearer to its centre than to any other's."""
        middles = (self.centers[:-1] + self.centers[1:]) / 2
        return np.concatenate([[0], np.ceil(middles).astype(int)])

    def cell(self, first: int, last: int) -> slice:
        """The pixels that are nearest to the centres of the windows `first` to `last`."""
        ends = [*self.cells[1:], self.length]
        return slice(int(self.cells[first]), int(ends[last]))

    def largest_nearest(self, values: np.ndarray) -> np.ndarray:
        """For each window, the largest of the values (length, ...) at the pixels that are nearest to its centre."""
        return np.maximum.reduceat(values, self.cells, axis=0)

    def interpolation(self) -> np.ndarray:
        """Weights (length, windows) of linear interpolation, constant beyond the outer centres."""
        pixels = np.arange(self.length)
        weights = [np.interp(pixels, self.centers, unit) for unit in np.eye(len(self.starts))]
        return np.stack(weights, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Region:
    """
    A place where a map is higher than all around.

    Args:
        probability: there.
        row: in pixels of the source, from 0 at the top.
        column: from 0 at the left.
    """

    probability: float
    row: int
    column: int


def highest_regions(probability: np.ndarray, rows: WindowAxis, columns: WindowAxis, count: int = 10) -> list[Region]:
    """
    The highest places of a map, each the highest of its window.

    They are sought among the cells of the windows, not of the pixels: beyond the outer windows' centres a map is level,
    and every pixel there would be the highest around it.

    Args:
        probability: (H, W), 0 outside the breast.
        rows: the windows that it was made of.
        columns: likewise.
        count: at most so many.

    Returns:
        the highest first. Of a level stretch the pixel nearest to its middle is given.
    """
    cells = rows.largest_nearest(columns.largest_nearest(probability.T).T)
    around = [2 * (axis.width // 2 // axis.stride) + 1 for axis in (rows, columns)]
    peaks, number = ndimage.label((cells > 0) & (cells == ndimage.maximum_filter(cells, size=around)), np.ones((3, 3)))
    found = []
    for box in ndimage.find_objects(peaks, number):
        down, across = (axis.cell(part.start, part.stop - 1) for axis, part in zip((rows, columns), box, strict=True))
        found.append(_highest(probability[down, across], down.start, across.start))
    return sorted(found, key=lambda region: -region.probability)[:count]


def _highest(values: np.ndarray, row: int, column: int, tolerance: float = 1e-6) -> Region:
    """The highest pixel of a part of a map that begins at `row` and `column`, up to what interpolation rounds."""
    pixels = np.argwhere(values >= values.max() - tolerance)
    down, across = pixels[np.square(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return Region(float(values[down, across]), row + down, column + across)
