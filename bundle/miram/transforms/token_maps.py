"""Maps of tokens of whole views: loaded whole, or as random crops with the boxes of the lesions in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

from miram.errors import InputError

STEP = 2  # rows and columns of maps and crops are multiples of it: a detector has a level of half their size


def load_token_map(data: Mapping[str, Any]) -> dict[str, Any]:
    """
    Load a whole map.

    Args:
        data: "map", a file, and "boxes" (M, 4), x0, y0, x1, y1 in pixels of the view; rows of NaN are none.

    Returns:
        "image", its name; "map" (D, H, W) and "boxes" (M, 4), float32.
    """
    return _sample(data, np.load(data["map"]), np.asarray(data["boxes"]))


class RandTokenCrop(Randomizable, Transform):
    """
    A random crop of a map, mirrored at random along both axes.

    Tokens are mirrored, not the pixels that they describe: the encoder would not give quite the same.

    Args:
        size: of the crop, in tokens, even numbers.
        pixels_per_token: of the view.
        lesion_share: how often a crop of a view with lesions is placed around one of them, which lies anywhere in its
            inner part; otherwise it is placed around any point of the breast.

    Raises:
        InputError: if the size is not two even numbers, or the share is none.
    """

    def __init__(self, size: Sequence[int], pixels_per_token: int, lesion_share: float = 0.7) -> None:
        if len(size) != 2 or any(length < STEP or length % STEP for length in size):
            raise InputError(f'crop_tokens is {list(size)}; give two multiples of {STEP}, such as "[40,32]"')
        if not 0 <= lesion_share <= 1:
            raise InputError(f"lesion_share is {lesion_share}; give a share from 0 to 1")
        self.size = np.array(size, int)
        self.pixels_per_token = pixels_per_token
        self.lesion_share = lesion_share

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """
        Cut a crop.

        Args:
            data: as for :func:`load_token_map`; the map's last channel is 1 in the breast.

        Returns:
            the same keys, with boxes from the crop's corner. A box of which less than a token is left becomes NaN.
        """
        values, boxes = np.load(data["map"], mmap_mode="r"), np.asarray(data["boxes"])
        row, column = self._start(values[-1], boxes[~np.isnan(boxes[:, 0])])
        height, width = self.size.tolist()
        cut = values[:, row : row + height, column : column + width]
        crop = np.zeros((len(values), height, width), np.float32)
        crop[:, : cut.shape[1], : cut.shape[2]] = cut
        inside = self._cut_boxes(boxes, np.array([column, row]) * self.pixels_per_token)
        for channel_axis, low, length in ((2, 0, width), (1, 1, height)):
            if self.R.random() < 0.5:
                crop = np.flip(crop, channel_axis)
                inside[:, [low, low + 2]] = length * self.pixels_per_token - inside[:, [low + 2, low]]
        return _sample(data, np.ascontiguousarray(crop), inside)

    def _start(self, breast: np.ndarray, boxes: np.ndarray) -> tuple[int, int]:
        """The first row and column of the crop."""
        if len(boxes) and self.R.random() < self.lesion_share:
            x0, y0, x1, y1 = boxes[self.R.randint(len(boxes))] / self.pixels_per_token
            first = np.array([y0 + y1, x0 + x1]) / 2 - self.R.uniform(0.1, 0.9, size=2) * self.size
        else:
            places = np.argwhere(breast)
            first = places[self.R.randint(len(places))] - self.size / 2
        last = np.maximum(np.array(breast.shape) - self.size, 0)
        row, column = np.clip(first, 0, last).astype(int).tolist()
        return row, column

    def _cut_boxes(self, boxes: np.ndarray, start: np.ndarray) -> np.ndarray:
        limits = self.size[::-1] * self.pixels_per_token
        cut = np.clip(boxes - np.tile(start, 2), 0, np.tile(limits, 2))
        least = np.minimum(boxes[:, 2:] - boxes[:, :2], self.pixels_per_token)
        cut[~((cut[:, 2:] - cut[:, :2]) >= least).all(axis=1)] = np.nan
        return cut


def _sample(data: Mapping[str, Any], values: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
    return {
        "image": data["image"],
        "map": torch.from_numpy(values.astype(np.float32)),
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
    }
