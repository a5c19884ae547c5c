"""Scaling to 16 bit, and the refusals that all readers share."""

from __future__ import annotations

import numpy as np
import pytest

from miram.errors import InputError
from miram.readers.image import check_size, drop_alpha, gray_of_color, stretch, stretch_percentiles, to_uint16


@pytest.mark.parametrize(
    ("stored", "expected", "scaling"),
    [
        (np.array([False, True]), [0, 65535], "1 bit x 65535"),
        (np.array([0, 1, 255], np.uint8), [0, 257, 65535], "8 bit x 257"),
        (np.array([0, 1, 65535], np.uint16), [0, 1, 65535], "16 bit as stored"),
        (np.array([0, 1, 65535], ">u2"), [0, 1, 65535], "16 bit as stored"),
    ],
)
def test_unsigned_types_keep_their_levels(stored: np.ndarray, expected: list[int], scaling: str) -> None:
    pixels, name = to_uint16("a.png", stored)
    assert pixels.dtype == np.dtype("=u2")
    assert (pixels.tolist(), name) == (expected, scaling)


def test_other_types_are_stretched_between_percentiles() -> None:
    values = np.arange(-1000, 1001, dtype=np.float32)
    pixels, name = to_uint16("a.tif", values)
    # 0.5 % and 99.5 % of 2,001 values are the 10th from either end: -990 and 990.
    assert (pixels[10], pixels[11], pixels[1000], pixels[1990]) == (0, 33, 32768, 65535)
    assert name == "percentiles 0.5-99.5"


def test_percentiles_of_a_flat_background_give_way_to_extremes() -> None:
    values = np.zeros(10_000, np.int16)
    values[7] = 300
    pixels, name = stretch_percentiles("a.nii", values)
    assert (pixels[7], pixels[0], name) == (65535, 0, "extremes")


def test_constant_values_become_zero() -> None:
    assert stretch(np.full(3, 9.0), 9.0, 9.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match=r"a\.tif holds values that are not finite"):
        to_uint16("a.tif", np.array([0.0, bad]))


def test_complex_values_and_unknown_intensity_are_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        to_uint16("a.nii", np.zeros(3, np.complex64))
    with pytest.raises(InputError, match="'log' is not one of stored, percentiles"):
        to_uint16("a.nii", np.zeros(3), "log")


def test_size_is_checked_by_the_header() -> None:
    check_size("a.png", (10, 10), 100)
    with pytest.raises(InputError, match="10x11 pixels, more than max_pixels=100"):
        check_size("a.png", (10, 11), 100)
    with pytest.raises(InputError, match="no pixels"):
        check_size("a.png", (10, 0), 100)


def test_small_chroma_is_tolerated_and_color_is_not() -> None:
    channels = np.full((100, 100, 3), 100, np.uint8)
    channels[..., 0] += 16
    assert (gray_of_color("a.jpg", channels) == 100).all()
    channels[:3, :3, 1] = 0  # 9 of 10,000 pixels: less than a thousandth
    assert (gray_of_color("a.jpg", channels)[5:] == 100).all()
    channels[:4, :4, 1] = 0
    with pytest.raises(InputError, match=r"a\.jpg is a color image"):
        gray_of_color("a.jpg", channels)


def test_only_opaque_alpha_is_dropped() -> None:
    channels = np.full((4, 4, 2), 255, np.uint8)
    assert drop_alpha("a.png", channels).shape == (4, 4, 1)
    channels[0, 0, 1] = 254
    with pytest.raises(InputError, match=r"a\.png is partly transparent"):
        drop_alpha("a.png", channels)
