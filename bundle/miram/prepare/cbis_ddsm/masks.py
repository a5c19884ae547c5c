"""A lesion's mask: found among its files by its pixels, and brought onto the mammogram's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miram.errors import InputError
from miram.prepare.cbis_ddsm.layout import DicomFile
from miram.readers.formats import read_image


@dataclass(frozen=True)
class MaskFiles:
    """
    A lesion whose mask is in one of several files (a :class:`miram.prepare.regions.Region`).

    Args:
        dicom_dir: the folder that paths are relative to.
        mammogram: path of the full mammogram.
        files: of the lesion's series: the mask and the cropped image in unknown order.
        tolerance: see :func:`fit_mask`.
    """

    dicom_dir: Path
    mammogram: str
    files: tuple[DicomFile, ...]
    tolerance: float

    @property
    def key(self) -> list[Any]:
        """What decides the mask: a file that is replaced has another size or time."""
        return [self.tolerance, *([file.path, file.size, file.modified] for file in self.files)]

    @property
    def if_constant(self) -> str:
        """What the report says if the mammogram has one value there."""
        return f"{self.mammogram} is constant where the mask has the lesion"

    def mask(self, shape: Sequence[int]) -> tuple[np.ndarray, str]:
        """
        Find the mask by what the files hold, since file numbers and descriptions are often wrong.

        Raises:
            InputError: if no file has two values and a size that fits; the message goes through all of them.
        """
        refused = []
        for path in (self.dicom_dir / file.path for file in self.files):
            try:
                pixels = read_image(path).pixels
                low, high = pixels.min(), pixels.max()
                if low == high:
                    raise InputError(f"{path} is empty: all its pixels are the same")
                if not np.all((pixels == low) | (pixels == high)):
                    raise InputError(f"{path} has more than two values")
                return fit_mask(path, pixels == high, shape, self.tolerance)
            except InputError as error:
                refused.append(str(error))
        raise InputError("no mask of the lesion: " + "; ".join(refused))


def fit_mask(path: Path, mask: np.ndarray, shape: Sequence[int], tolerance: float) -> tuple[np.ndarray, str]:
    """
    Bring a mask onto its mammogram's pixels.

    At least 78 published masks have 1 / 1.149 of the mammogram's sides (as their sizes in bytes tell): the film at 50
    instead of 43.5 micrometres a pixel. A mask whose sides have one ratio to the mammogram's is therefore resized; one
    of slightly other proportions is aligned at the origin.

    Args:
        path: named in errors.
        mask: bool, of its own size.
        shape: (H, W) of the full mammogram.
        tolerance: how far the sides of a mask of other proportions may differ, as a share of the mammogram's.

    Returns:
        (H, W) bool, and a note that is empty where nothing was to be done.

    Raises:
        InputError: if the size differs more.
    """
    (own_height, own_width), (height, width) = mask.shape, shape
    sizes = f"mask of {own_height} x {own_width}", f"{height} x {width} pixels"
    if (own_height, own_width) == (height, width):
        return mask, ""
    if abs(own_width * height / own_height - width) <= max(2, 0.002 * width):  # the rounding of both sizes to pixels
        rows, columns = _nearest(height, own_height), _nearest(width, own_width)
        return mask[rows[:, None], columns[None, :]], f"{sizes[0]} resized to {sizes[1]}"
    if max(abs(own_height - height) / height, abs(own_width - width) / width) > tolerance:
        raise InputError(f"{path} is a {sizes[0]} pixels, the mammogram has {sizes[1]}")
    aligned = np.zeros((height, width), dtype=bool)
    part = mask[:height, :width]
    aligned[: part.shape[0], : part.shape[1]] = part
    return aligned, f"{sizes[0]} aligned at the origin of {sizes[1]}"


def _nearest(size: int, own_size: int) -> np.ndarray:
    """For each pixel along an axis of `size` the nearest one of `own_size` (pixel centres, so nothing shifts)."""
    return ((np.arange(size) + 0.5) * own_size / size).astype(int)
