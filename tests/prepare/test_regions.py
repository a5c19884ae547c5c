"""Boxes on an image's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from miram.errors import InputError
from miram.prepare.regions import Box


@pytest.mark.parametrize(
    ("cells", "rows", "columns", "remark"),
    [
        (("3", "2", "4", "5"), (2, 7), (3, 7), ""),
        (("3.4", "2.5", "4.2", "5.4"), (3, 8), (3, 8), ""),
        (("-0.5", "8.5", "6", "12"), (9, 20), (0, 6), ""),
        (("-4", "8", "10", "2"), (8, 10), (0, 6), "cut off"),
        (("3.2", "2.2", "0.3", "0.3"), (2, 3), (3, 4), ""),
    ],
)
def test_a_box_is_filled(
    cells: tuple[str, str, str, str], rows: tuple[int, int], columns: tuple[int, int], remark: str
) -> None:
    mask, said = Box(cells).mask((20, 10))
    expected = np.zeros((20, 10), bool)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(mask, expected)
    assert bool(said) == bool(remark)
    assert remark in said


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("30", "2", "4", "5"), "at x 30, y 2 of 4 x 5 pixels is outside the image of 10 x 20 pixels"),
        (("-4", "2", "6", "5"), "outside"),
        (("3", "1e308", "4", "1e308"), "outside"),
        (("3", "2", "-4", "5"), "width of the box is -4; give a number of pixels above 0"),
        (("3", "2", "4", "0"), "height of the box is 0"),
        (("3", "inf", "4", "5"), "y of the box is 'inf'; give a number"),
        (("3,5", "2", "4", "5"), "x of the box is '3,5'; give a number of pixels, with a decimal point"),
    ],
)
def test_a_box_without_a_place_says_why(cells: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Box(cells).mask((20, 10))
