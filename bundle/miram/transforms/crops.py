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

    A window that would extend over an edge is shifted inside. Along an axis on which the image is smaller than the
    window, the image is padded with zeros on both sides.

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


def cut_lesion(
    image: np.ndarray, mask: np.ndarray, crop_size: int, context: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """
    Cut a square with context around a lesion: at native resolution if it fits, otherwise downsampled.

    Args:
        image: (H, W) uint16.
        mask: (H, W) bool, True in the lesion; not empty.
        crop_size: side of the returned crop.
        context: smallest side of the square, in bounding boxes of the lesion.

    Returns:
        the crop and its mask (0 and 65535), both (crop_size, crop_size) uint16, and crop pixels per original pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])
    center = ((rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2)
    side = max(crop_size, math.ceil(context * max(box)))
    crop, crop_mask = crop_at(image, center, side), crop_at(mask.astype(np.uint16) * 65535, center, side)
    if side > crop_size:
        crop, crop_mask = resize_crop(crop, crop_size), resize_crop(crop_mask, crop_size)
    return crop, np.where(crop_mask > 32767, 65535, 0).astype(np.uint16), crop_size / side


def fit_crop(image: np.ndarray, size: int) -> np.ndarray:
    """A whole image (H, W) or (H, W, D) as a crop of `size` along each axis: downsampled if larger, then padded."""
    scale = size / max(image.shape)
    if scale < 1:
        image = resize_crop(image, [max(1, round(length * scale)) for length in image.shape])
    return crop_at(image, [length / 2 for length in image.shape], size)


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """A size in pixels times a scale, rounded along each axis."""
    return [round(length * scale) for length in size]


def resize_crop(crop: np.ndarray, size: int | Sequence[int]) -> np.ndarray:
    """
    Resize with linear interpolation, with anti-aliasing if it shrinks.

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
        # PyTorch anti-aliases only two axes; the filter is separable, so the third follows in a second pass.
        planes = _resize_planes(values.permute(2, 0, 1), sizes[:2])
        resized = _resize_planes(planes.permute(1, 2, 0), (sizes[1], sizes[2]))
    return resized.round().clamp(0, 65535).numpy().astype(np.uint16)


def breast_mask(image: np.ndarray, working_size: int = 512) -> np.ndarray:
    """
    Separate the breast (or body) from the air: Otsu's threshold on a small copy, then the largest component.

    Burned-in labels are separate components and are dropped. The threshold (Otsu, IEEE Trans. SMC 1979) is applied to
    square roots of the values, in which fat is closer to gland than to air. A constant image has an empty mask.

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
    mask: np.ndarray,
    count: int,
    size: int | Sequence[int],
    rng: np.random.Generator,
    min_tissue: float = 0.5,
    avoid: np.ndarray | None = None,
) -> list[tuple[int, ...]]:
    """
    Draw different windows of tissue, uniformly from all that contain enough of it.

    If no window contains `min_tissue` (a breast narrower than the window), those with the most tissue are used.

    Args:
        mask: (H, W) or (H, W, D), bool: the tissue.
        size: of the windows, in pixels, one for all axes or one per axis.
        min_tissue: smallest share of a window that is tissue; of a window larger than the image, only the part inside
            the image counts.
        avoid: of the mask's shape, bool: lesions, of which no window contains a pixel.

    Returns:
        up to `count` centres (row, column[, slice]) for :func:`crop_at`; none without tissue, or if no window is free.
    """
    sizes = _per_axis(size, mask.ndim)
    starts = [_window_starts(length, width) for length, width in zip(mask.shape, sizes, strict=True)]
    shares = _window_shares(mask, starts, sizes)
    if shares.max() == 0:
        return []
    allowed = shares >= min(min_tissue, shares.max())
    if avoid is not None:
        allowed &= _window_shares(avoid, starts, sizes) == 0
    candidates = np.argwhere(allowed)
    chosen = candidates[rng.choice(len(candidates), size=min(count, len(candidates)), replace=False)]
    return [
        tuple(int(start[index]) + width // 2 for start, index, width in zip(starts, window, sizes, strict=True))
        for window in chosen
    ]


def _window_starts(length: int, width: int, steps: int = 32) -> np.ndarray:
    """Where windows start along an axis: `steps` positions per window, and the last that fits."""
    last = max(length - width, 0)
    return np.unique(np.append(np.arange(0, last, max(width // steps, 1)), last))


def _window_shares(mask: np.ndarray, starts: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Each window's share of tissue, without its padding, from cumulative sums along each axis in turn."""
    sums = mask.astype(np.int32)
    for axis, (start, width) in enumerate(zip(starts, sizes, strict=True)):
        edges = [(1, 0) if other == axis else (0, 0) for other in range(mask.ndim)]
        cumulative = np.pad(sums.cumsum(axis, dtype=np.int32), edges)
        ends = np.minimum(start + width, mask.shape[axis])
        sums = cumulative.take(ends, axis) - cumulative.take(start, axis)
    return sums / math.prod(min(width, length) for width, length in zip(sizes, mask.shape, strict=True))


def _otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that splits `values` into two classes with the largest between-class variance."""
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
