"""Random fields with a given spectrum, from which tissue is made."""

from __future__ import annotations

import numpy as np
import scipy.fft


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
        shape: (H, W).
        exponent: of the amplitude.
        rng: the source of randomness.
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
