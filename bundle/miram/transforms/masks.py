"""Masks beside images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, SpatialPadd

from miram.transforms.windows import Steps


class BinaryMaskd(MapTransform):
    """
    Turn a stored mask (0 and 65535) into 0 and 1; a missing one is 0 everywhere.

    Args:
        keys: of the mask.
        image: key of the image, whose shape a missing mask gets.
    """

    def __init__(self, keys: Hashable, image: Hashable = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image = image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace or add the masks, float32."""
        result = dict(data)
        for key in self.keys:
            result[key] = (result[key] > 32767).float() if key in result else torch.zeros_like(result[self.image])
        return result


def load_masked_windows(
    load: Callable[[Any], Any], load_mask: Callable[[Any], Any], field_of_view: tuple[int, ...]
) -> Steps:
    """
    Load an image and its mask, "image" and "label", and pad both where they are smaller than the window that is seen.

    Args:
        load: a MONAI transform that loads the image as (C, *spatial), with the stored 16 bits.
        load_mask: one that loads the mask, or does nothing where there is none.
        field_of_view: size of the window in pixels.
    """
    return [load, load_mask, BinaryMaskd("label"), SpatialPadd(keys=["image", "label"], spatial_size=field_of_view)]
