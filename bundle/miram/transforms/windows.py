"""From a stored crop to the network's input: the steps that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import CenterSpatialCropd, ScaleIntensityRanged, SpatialPadd, Transform

Steps = list[Transform | Callable[[Any], Any]]


def load_windows(keys: str, load: Callable[[Any], Any], field_of_view: Sequence[int]) -> Steps:
    """
    Load an image, and pad it with air (0) where it is smaller than the window that is seen.

    Args:
        keys: of the images in a sample.
        load: a MONAI transform that loads them as (C, *spatial), with the stored 16 bits.
        field_of_view: size of the window in pixels.
    """
    return [load, SpatialPadd(keys=keys, spatial_size=field_of_view)]


def scale_windows(keys: str, preprocessing: Mapping[str, Any]) -> Steps:
    """
    Map gray levels linearly to the network's input.

    Args:
        keys: of the images in a sample.
        preprocessing: "a_min" and "a_max", stored values, become "b_min" and "b_max"; other entries are ignored.
    """
    limits = {name: preprocessing[name] for name in ("a_min", "a_max", "b_min", "b_max")}
    return [ScaleIntensityRanged(keys=keys, **limits)]


def center_windows(keys: str, field_of_view: Sequence[int]) -> Steps:
    """
    Cut the window from the middle of the image, for validation and inference.

    Args:
        keys: of the images in a sample.
        field_of_view: size of the window in pixels.
    """
    return [CenterSpatialCropd(keys=keys, roi_size=field_of_view)]
