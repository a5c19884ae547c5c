"""Overlapping windows of an image: where they lie, how they become a network's input, and the peaks of their map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, ScaleIntensityRange
from monai.utils import convert_to_tensor
from scipy import ndimage
from torch.nn import functional

from miram.errors import InputError
from miram.losses.reconstruction import downsample

WindowFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class WindowAxis:
    """The positions of windows along one axis of an image."""

    length: int  # of the image, in pixels
    width: int  # of a window, in pixels
    stride: int  # largest distance between the centres of two windows, in pixels
    starts: np.ndarray  # first pixel of each window in the padded image, ascending
    padding: tuple[int, int]  # pixels of air before and after an image that is smaller than a window

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
    """A local maximum of a map."""

    probability: float  # the map's value there
    row: int  # in pixels of the source, from 0 at the top
    column: int  # from 0 at the left


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image."""

    rows: WindowAxis  # their positions along the rows' axis
    columns: WindowAxis  # the same along the columns' axis

    @classmethod
    def of(cls, shape: Sequence[int], size: Sequence[int], overlap: float) -> WindowGrid:
        """
        The windows of an image (H, W).

        Args:
            shape: of the image, in pixels.
            overlap: smallest share of a window that the next one also covers.
        """
        strides = [max(1, round(length * (1 - overlap))) for length in size]
        rows, columns = (WindowAxis.of(*lengths) for lengths in zip(shape, size, strides, strict=True))
        return cls(rows, columns)

    def showing(self, mask: np.ndarray) -> np.ndarray:
        """The windows whose centre is the nearest one to some pixel of a mask (H, W): bool, (rows, columns)."""
        return self.rows.largest_nearest(self.columns.largest_nearest(mask.T).T)

    def batches(self, image: torch.Tensor, places: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
        """
        Windows of an image, cut out.

        Args:
            image: (1, H, W).
            places: (N, 2) the windows' indices along both axes.
            batch_size: windows at once, at most.

        Yields:
            (B, 1, h, w); beyond the edges of a small image they hold 0, air.
        """
        padded = functional.pad(image, (*self.columns.padding, *self.rows.padding))
        for start in range(0, len(places), batch_size):
            chosen = places[start : start + batch_size]
            yield torch.stack([padded[:, self.rows.window(row), self.columns.window(column)] for row, column in chosen])

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values (rows, columns) at the windows' centres, linearly interpolated to every pixel: (H, W)."""
        return np.asarray(self.rows.interpolation() @ values @ self.columns.interpolation().T)

    def highest_regions(self, probability: np.ndarray, count: int = 10) -> list[Region]:
        """
        The highest points of a map, each the highest within its window.

        Only the windows' centres are considered, not all pixels: beyond the outer centres a map is flat, and every
        pixel there would be a local maximum.

        Args:
            probability: (H, W), 0 outside the breast.

        Returns:
            the highest first, each at its window's centre, or at the pixel of the breast nearest to it.
        """
        values = np.zeros((len(self.rows.starts), len(self.columns.starts)), np.float32)
        places = {}
        for row, column in np.ndindex(values.shape):
            place = self._nearest_positive(probability, row, column)
            if place is not None:
                places[row, column], values[row, column] = place, probability[place]
        # half a window to each side, but at least the next window
        around = [2 * max(1, round(axis.width / 2 / axis.stride)) + 1 for axis in (self.rows, self.columns)]
        peaks = (values > 0) & (values == ndimage.maximum_filter(values, size=around))
        labels, number = ndimage.label(peaks, np.ones((3, 3)))
        found = []
        for index in range(1, number + 1):  # neighbouring windows with the same value are one region
            windows = np.argwhere(labels == index)
            row, column = windows[np.square(windows - windows.mean(axis=0)).sum(axis=1).argmin()].tolist()
            found.append(Region(float(values[row, column]), *places[row, column]))
        return sorted(found, key=lambda region: -region.probability)[:count]

    def _nearest_positive(self, probability: np.ndarray, row: int, column: int) -> tuple[int, int] | None:
        """The breast's pixel nearest to a window's centre, among those that are not nearer to another centre."""
        center = self.rows.centers[row], self.columns.centers[column]
        middle = int(center[0]), int(center[1])
        if probability[middle] > 0:
            return middle
        down, across = self.rows.cell(row), self.columns.cell(column)
        pixels = np.argwhere(probability[down, across] > 0) + np.array([down.start, across.start])
        if len(pixels) == 0:
            return None
        found_row, found_column = pixels[np.square(pixels - center).sum(axis=1).argmin()].tolist()
        return found_row, found_column


def check_windows(overlap: float, sw_batch_size: int) -> None:
    """
    Check how windows slide over an image.

    Raises:
        InputError: if `overlap` is not a share below 1, or `sw_batch_size` is not positive.
    """
    if not (is_number(overlap) and 0 <= overlap < 1):
        raise InputError(f"overlap is {overlap}; give a share from 0 to below 1, such as 0.75")
    if sw_batch_size < 1:
        raise InputError(f"sw_batch_size is {sw_batch_size}; give 1 or more windows")


@dataclass(eq=False)
class ToNetworkSize:
    """Resize windows to the network's size: downsampled as in training, or enlarged if the source is too coarse."""

    image_size: Sequence[int]  # pixels along each axis of the network's input

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, 1, *spatial) -> (B, 1, *image_size)."""
        windows = convert_to_tensor(windows, track_meta=False)
        if all(length >= size for length, size in zip(windows.shape[2:], self.image_size, strict=True)):
            return downsample(windows, self.image_size)
        mode = "bilinear" if windows.ndim == 4 else "trilinear"
        return functional.interpolate(windows, size=tuple(self.image_size), mode=mode, align_corners=False)


def window_to_input(preprocessing: Mapping[str, Any]) -> Compose:
    """
    The transforms from windows (B, 1, *spatial), 0..65535, to the network's input (B, 1, *image_size).

    Args:
        preprocessing: of the trained network: "a_min" and "a_max", stored values, become "b_min" and "b_max".
    """
    limits = {name: preprocessing[name] for name in ("a_min", "a_max", "b_min", "b_max")}
    return Compose([ScaleIntensityRange(**limits), ToNetworkSize(preprocessing["image_size"])])


def is_number(value: object) -> bool:
    """Whether a value is a number: other values on the command line arrive as text."""
    return isinstance(value, int | float)
