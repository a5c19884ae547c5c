"""Overlapping windows along the axes of an image, and the highest regions of a map that was made from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class WindowAxis:
    """
    The positions of windows along one axis of an image.

    Args:
        length: of the image, in pixels.
        width: of a window, in pixels.
        stride: largest distance between the centres of two windows, in pixels.
        starts: first pixel of each window in the padded image, ascending.
        padding: pixels of air before and after an image that is smaller than a window.
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
        """The centre of each window, in pixels of the image; 0 is the centre of the first pixel."""
        return self.starts - self.padding[0] + (self.width - 1) / 2

    def window(self, index: int) -> slice:
        """A window of the padded image."""
        return slice(int(self.starts[index]), int(self.starts[index]) + self.width)

    @property
    def cells(self) -> np.ndarray:
        """For each window, the first of the pixels that are nearer to its centre than to that of any other window."""
        middles = (self.centers[:-1] + self.centers[1:]) / 2
        return np.concatenate([[0], np.ceil(middles).astype(int)])

    def cell(self, index: int) -> slice:
        """The pixels that are nearer to a window's centre than to that of any other window."""
        ends = [*self.cells[1:], self.length]
        return slice(int(self.cells[index]), int(ends[index]))

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
    A local maximum of a map.

    Args:
        probability: the map's value there.
        row: in pixels of the source, from 0 at the top.
        column: from 0 at the left.
    """

    probability: float
    row: int
    column: int


def highest_regions(probability: np.ndarray, rows: WindowAxis, columns: WindowAxis, count: int = 10) -> list[Region]:
    """
    The highest points of a map, each the highest within its window.

    Only the windows' centres are considered, not all pixels: beyond the outer centres a map is flat, and every pixel
    there would be a local maximum.

    Args:
        probability: (H, W), 0 outside the breast.
        rows: the windows along the rows' axis from which the map was made.
        columns: the same for the columns.
        count: the largest number of regions.

    Returns:
        the highest first, each at its window's centre, or at the pixel of the breast nearest to it.
    """
    values = np.zeros((len(rows.starts), len(columns.starts)), np.float32)
    places = {}
    for row, column in np.ndindex(values.shape):
        place = _nearest_positive(probability, rows, columns, row, column)
        if place is not None:
            places[row, column], values[row, column] = place, probability[place]
    around = [2 * max(1, round(axis.width / 2 / axis.stride)) + 1 for axis in (rows, columns)]  # at least the next one
    peaks = (values > 0) & (values == ndimage.maximum_filter(values, size=around))
    labels, number = ndimage.label(peaks, np.ones((3, 3)))
    found = []
    for index in range(1, number + 1):  # neighbouring windows with the same value are one region
        windows = np.argwhere(labels == index)
        row, column = windows[np.square(windows - windows.mean(axis=0)).sum(axis=1).argmin()].tolist()
        found.append(Region(float(values[row, column]), *places[row, column]))
    return sorted(found, key=lambda region: -region.probability)[:count]


def _nearest_positive(
    probability: np.ndarray, rows: WindowAxis, columns: WindowAxis, row: int, column: int
) -> tuple[int, int] | None:
    """The pixel of the breast nearest to a window's centre, among those that are not nearer to another centre."""
    center = rows.centers[row], columns.centers[column]
    middle = int(center[0]), int(center[1])
    if probability[middle] > 0:
        return middle
    down, across = rows.cell(row), columns.cell(column)
    pixels = np.argwhere(probability[down, across] > 0) + np.array([down.start, across.start])
    if len(pixels) == 0:
        return None
    found_row, found_column = pixels[np.square(pixels - center).sum(axis=1).argmin()].tolist()
    return found_row, found_column
