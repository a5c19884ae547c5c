"""From a stored crop to the network's input: the steps that training, evaluation and inference share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import PILReader
from monai.data.utils import get_random_patch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    LoadImaged,
    MapTransform,
    RandCropd,
    RandFlipd,
    RandRotate90d,
    RandSpatialCrop,
    RandSpatialCropd,
    Resized,
    ScaleIntensityRanged,
    SpatialPadd,
    Transform,
)

from miram.errors import InputError

Steps = list[Transform | Callable[[Any], Any]]
# what a transform has drawn, and how it was last run
_STATE = {"R", "_do_transform", "_rand_k", "_slices", "_size", "_offset", "_axis", "_tracing"}


def load_windows(keys: str, load: Callable[[Any], Any], field_of_view: Sequence[int]) -> Steps:
    """Load an image as (C, *spatial), in its stored 16 bits, and pad it with air (0) up to the window, in pixels."""
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
    """Cut the window (its size is in pixels) from the middle of the image, for validation and inference."""
    return [CenterSpatialCropd(keys=keys, roi_size=field_of_view)]


class RandomScaleWindow(RandSpatialCrop):
    """
    MONAI's random crop, of a random size but a fixed shape: masses keep theirs.

    Args:
        field_of_view: the window's size in pixels at area 1.
        crop_area: smallest and largest area (in 3D, volume) of the window as a share of the field of view's, drawn
            uniformly. It is never larger than the image.
    """

    def __init__(self, field_of_view: Sequence[int], crop_area: Sequence[float]) -> None:
        super().__init__(field_of_view)
        self.crop_area = crop_area

    def randomize(self, img_size: Sequence[int]) -> None:
        """Draw a window's size and place in an image of that size."""
        size = [int(length) for length in self.roi_size]  # type: ignore[union-attr]
        side = self.R.uniform(self.crop_area[0], self.crop_area[1]) ** (1 / len(size))
        side = min(side, *(limit / length for limit, length in zip(img_size, size, strict=True)))
        self._size = [max(1, round(length * side)) for length in size]
        self._slices = get_random_patch(img_size, self._size, self.R)


def random_window(keys: str, field_of_view: Sequence[int], crop_area: Sequence[float] | None = None) -> Transform:
    """
    Cut the window at a random place, for training; with `crop_area` also of a random size.

    A window of another size is resized to the field of view, smoothed first if it shrinks, before anything is reduced
    from it: all scales show the same window (MAE's random resized crop, arXiv 2111.06377, with a fixed aspect ratio).

    Args:
        keys: of the images in a sample.
        field_of_view: size of the window in pixels.
        crop_area: see :class:`RandomScaleWindow`; MAE's is from 0.2 to 1. None keeps the size.

    Raises:
        InputError: if `crop_area` is not two numbers above 0, the smaller one first.
    """
    if crop_area is None:
        return RandSpatialCropd(keys=keys, roi_size=field_of_view, random_size=False)
    if len(crop_area) != 2 or not 0 < crop_area[0] <= crop_area[1]:
        raise InputError(f"crop_area is {crop_area}; give the smallest and the largest share, such as [0.3, 1.0]")
    mode = "bilinear" if len(field_of_view) == 2 else "trilinear"
    return Compose(
        [
            RandCropd(keys, RandomScaleWindow(field_of_view, crop_area)),
            Resized(keys, field_of_view, mode=mode, anti_aliasing=True),
        ]
    )


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


def standard_transforms(
    crop_size: Sequence[int],
    preprocessing: Mapping[str, Any],
    random: bool,
    crop_area: Sequence[float] | None = None,
    key: str = "label",
) -> Compose:
    """
    A crop's file to the network's window: random in training, central in validation.

    Args:
        crop_size: the window in pixels.
        preprocessing: "a_min" and "a_max", stored values, which become "b_min" and "b_max".
        random: of training.
        crop_area: see :func:`random_window`.
        key: of the path in a sample, and of the window.
    """
    reader: Any = PILReader(reverse_indexing=False)
    load = LoadImaged(key, reader=reader, ensure_channel_first=True, image_only=True)
    steps = [*load_windows(key, load, crop_size), *scale_windows(key, preprocessing)]
    if not random:
        return Compose([*steps, *center_windows(key, crop_size)])
    turns = [RandRotate90d(key, prob=0.5, max_k=3)] if len(set(crop_size)) == 1 else []
    flips = [RandFlipd(key, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    return Compose([*steps, random_window(key, crop_size, crop_area), *flips, *turns])


def exceeds_field_of_view(crop_area: Sequence[float] | None) -> bool:
    """Whether :func:`random_window` may cut a window that is larger than the field of view, and has to be smoothed."""
    return crop_area is not None and crop_area[1] > 1


def is_standard(transform: Compose, *settings: Any) -> bool:
    """Whether transforms are of the kinds of :func:`standard_transforms`, with these settings."""
    return _settings(transform) == _settings(standard_transforms(*settings))


def _settings(value: Any) -> Any:
    """Kinds and settings of transforms, as plain values; without their state."""
    if isinstance(value, list | tuple):
        return [_settings(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(name): _settings(entry) for name, entry in value.items()}
    if type(value).__module__.startswith(("monai.", "miram.")):
        kept = {name: entry for name, entry in vars(value).items() if name not in _STATE}
        return [type(value).__qualname__, _settings(kept)]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__qualname__
