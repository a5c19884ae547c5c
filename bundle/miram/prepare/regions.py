"""Where the lesions of an image are: what its lesion crops show, and its tissue crops avoid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from miram.errors import InputError
from miram.prepare.label_table import as_number


class Region(Protocol):
    """A lesion's place in an image, however it is given."""

    @property
    def key(self) -> Any:
        """What decides the mask, as JSON holds it: the image is cut again when it changes."""

    @property
    def if_constant(self) -> str:
        """What the report says if the image has one value there."""

    def mask(self, shape: Sequence[int]) -> tuple[np.ndarray, str]:
        """
        The lesion on the image's pixels.

        Returns:
            (H, W) bool, not empty, and a remark for the report or "".

        Raises:
            InputError: if the place is not known or not in the image.
        """


@dataclass(frozen=True)
class Box:
    """A box of a table, in pixels of the file; row 0 is on top."""

    # x (to the right) and y (down) of its upper left corner, its width and its height, as the table has them
    cells: tuple[str, str, str, str]
    image_size: tuple[int, int] | None = None  # width and height of the image, where the table says them

    @property
    def key(self) -> list[str | int]:
        """The cells, and the image's size if it is known: see :class:`Region`."""
        return [*self.cells, *(self.image_size or ())]

    @property
    def if_constant(self) -> str:
        """The box is probably in the air: see :class:`Region`."""
        return "the image has one value there: are x and y pixels of this file?"

    @property
    def numbers(self) -> tuple[float, ...]:
        """x, y, width and height; NaN where a cell does not hold a finite number."""
        return tuple(math.nan if (value := as_number(cell)) is None else value for cell in self.cells)

    def mask(self, shape: Sequence[int]) -> tuple[np.ndarray, str]:
        """The box filled, its edges rounded to pixels; one that reaches over the image's edge is cut off there."""
        if self.image_size not in (None, (shape[1], shape[0])):
            said = "{} x {}".format(*self.image_size)
            raise InputError(
                f"the table says that the image has {said} pixels, but it has {shape[1]} x {shape[0]}: {self} is of "
                "another image; give the images that the table was made of, or correct it"
            )
        x, y, width, height = self._checked()
        rows, remark_y = _inside(y, height, shape[0])
        columns, remark_x = _inside(x, width, shape[1])
        lengths = [max(axis.stop - axis.start, 0) for axis in (rows, columns)]
        if 2 * math.prod(lengths) < max(width * height, 1):  # most of it is elsewhere
            raise InputError(
                f"{self} is outside the image of {shape[1]} x {shape[0]} pixels; give x (to the right) and y (down) in "
                "pixels of this file, from its upper left corner"
            )
        mask = np.zeros(tuple(shape), bool)
        mask[rows, columns] = True
        return mask, remark_y or remark_x

    def __str__(self) -> str:
        x, y, width, height = self.cells
        return f"the box at x {x}, y {y} of {width} x {height} pixels"

    def _checked(self) -> tuple[float, ...]:
        for name, cell, value in zip(("x", "y", "width", "height"), self.cells, self.numbers, strict=True):
            if math.isnan(value):
                raise InputError(f"{name} of the box is {cell!r}; give a number of pixels, with a decimal point")
            if name in ("width", "height") and value <= 0:
                raise InputError(f"{name} of the box is {cell}; give a number of pixels above 0")
        return self.numbers


def _inside(start: float, length: float, size: int) -> tuple[slice, str]:
    """A box's pixels along an axis, at least one, and a remark where it reaches more than a pixel over the edge."""
    over = start < -1 or start + length > size + 1
    first = math.floor(start + 0.5)
    last = max(math.floor(min(start + length, size) + 0.5), first + 1)
    return slice(
        max(first, 0), min(last, size)
    ), "the box reaches over the image's edge and is cut off there" if over else ""
