"""Windows of images: cut, resized, and placed in breast tissue."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional


def crop_at(image: np.ndarray, center: Sequence[float], size: int | Sequence[int]) -> np.ndarray:
    """
    Cut a window around a point.

    A window that would reach over an edge is shifted inside; along an axis on which the image is smaller than the
    window, the image lies in the middle of zeros.

    Args:
        image: any number of axes.
        center: in pixels, one per axis.
        size: of the window, in pixels, one for all axes or one per axis.

    Returns:
        a copy of exactly `size`, in the image's dtype.
    """
    sizes = _per_axis(size, image.ndim)
    starts = [
        int(np.clip(np.floor(middle - width / 2 + 0.5), 0, max(length - width, 0)))
        for middle, width, length in zip(center, sizes, image.shape, strict=True)
    ]
    window = image[tuple(slice(start, start + width) for start, width in zip(starts, sizes, strict=True))]
    missing = [width - length for width, length in zip(sizes, window.shape, strict=True)]
    return np.pad(window, [(short // 2, short - short // 2) for short in missing])


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """A size in pixels times a scale, rounded along each axis."""
    return [round(length * scale) for length in size]


def resize_crop(crop: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """
    Resize with linear interpolation, anti-aliased where it shrinks.

    Args:
        crop: (H, W) or (H, W, D), any real dtype with values 0..65535.
        size: the new size in pixels, one for all axes or one per axis.

    Returns:
        uint16, rounded and clipped, of exactly `size`.
    """
    sizes = _per_axis(size, crop.ndim)
    if tuple(crop.shape) == tuple(sizes):
        return crop.astype(np.uint16)
    values = torch.from_numpy(np.ascontiguousarray(crop, dtype=np.float32))
    if crop.ndim == 2:
        resized = _resize_planes(values[None], sizes)[0]
    else:
        # PyTorch anti-aliases two axes only; the filter is separable, so the third follows in a second pass.
        planes = _resize_planes(values.permute(2, 0, 1), sizes[:2])
        resized = _resize_planes(planes.permute(1, 2, 0), (sizes[1], sizes[2]))
    return resized.round().clamp(0, 65535).numpy().astype(np.uint16)


def breast_mask(image: np.ndarray, working_size: int = 512) -> np.ndarray:
    """
    The breast (or body) against the air around it: Otsu's threshold on a small copy, then the largest component.

    Burned-in labels are components of their own and fall away. The threshold (Otsu, IEEE Trans. SMC 1979) is taken on
    square roots, where fat lies nearer to gland than to air. An image of one value has an empty mask.

    Args:
        image: (H, W) or (H, W, D), high = bright.
        working_size: the longest side of the small copy, in pixels.

    Returns:
        bool, of the image's shape.
    """
    scale = min(1.0, working_size / max(image.shape))
    small = np.sqrt(resize_crop(image, [max(1, round(length * scale)) for length in image.shape]).astype(np.float32))
    if small.min() == small.max():
        return np.zeros(image.shape, bool)
    components, count = ndimage.label(ndimage.binary_opening(small > _otsu(small), iterations=2))
    if count == 0:
        return np.zeros(image.shape, bool)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest = ndimage.binary_fill_holes(components == sizes.argmax())
    nearest = [
        np.minimum(np.arange(length) * short // length, short - 1)
        for length, short in zip(image.shape, small.shape, strict=True)
    ]
    return largest[np.ix_(*nearest)]


def tissue_centers(
    mask: np.ndarray, count: int, size: int | Sequence[int], rng: np.random.Generator, min_tissue: float = 0.5
) -> list[tuple[int, ...]]:
    """
    Draw windows of tissue, each a different one, uniformly among all that hold enough of it.

    Where no window holds `min_tissue` (a breast narrower than the window), the windows that hold most are drawn from.

    Args:
        mask: (H, W) or (H, W, D), bool: the tissue.
        count: how many windows are wanted.
        size: of the windows, in pixels, one for all axes or one per axis.
        rng: decides the draw.
        min_tissue: share of a window that is tissue, of the part of it that lies in the image where that is smaller.

    Returns:
        up to `count` centres (row, column[, slice]) for :func:`crop_at`; none where the mask is empty.
    """
    sizes = _per_axis(size, mask.ndim)
    starts = [_window_starts(length, width) for length, width in zip(mask.shape, sizes, strict=True)]
    shares = _window_shares(mask, starts, sizes)
    if shares.max() == 0:
        return []
    candidates = np.argwhere(shares >= min(min_tissue, shares.max()))
    chosen = candidates[rng.choice(len(candidates), size=min(count, len(candidates)), replace=False)]
    return [
        tuple(int(start[index]) + width // 2 for start, index, width in zip(starts, window, sizes, strict=True))
        for window in chosen
    ]


def _window_starts(length: int, width: int, steps: int = 32) -> np.ndarray:
    """Where windows begin along an axis: `steps` positions a window, and the last that fits."""
    last = max(length - width, 0)
    return np.unique(np.append(np.arange(0, last, max(width // steps, 1)), last))


def _window_shares(mask: np.ndarray, starts: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Each window's share of tissue, without its padding, from cumulative sums along one axis after the other."""
    sums = mask.astype(np.int32)
    for axis, (start, width) in enumerate(zip(starts, sizes, strict=True)):
        edges = [(1, 0) if other == axis else (0, 0) for other in range(mask.ndim)]
        cumulative = np.pad(sums.cumsum(axis, dtype=np.int32), edges)
        ends = np.minimum(start + width, mask.shape[axis])
        sums = cumulative.take(ends, axis) - cumulative.take(start, axis)
    return sums / math.prod(min(width, length) for width, length in zip(sizes, mask.shape, strict=True))


def _otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that separates `values` into the two classes of the largest between-class variance."""
    histogram, edges = np.histogram(values, bins)
    centers = (edges[:-1] + edges[1:]) / 2
    below = histogram.cumsum()[:-1]
    above = histogram.sum() - below
    mean_below = (histogram * centers).cumsum()[:-1] / np.maximum(below, 1)
    mean_above = (histogram * centers)[::-1].cumsum()[::-1][1:] / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (mean_above - mean_below) ** 2.0)])


def _resize_planes(planes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(N, H, W) -> (N, *size), linear and anti-aliased along the last two axes."""
    return functional.interpolate(planes[None], size=tuple(size), mode="bilinear", align_corners=False, antialias=True)[
        0
    ]


def _per_axis(size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    sizes = (size,) * axes if isinstance(size, int) else tuple(int(length) for length in size)
    if len(sizes) != axes or min(sizes) < 1:
        raise ValueError(f"size {size} does not fit an image of {axes} axes")
    return sizes
