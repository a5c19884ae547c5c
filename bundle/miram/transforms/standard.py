"""The MONAI transforms of `configs/pretrain.yaml`, for code that does the same on the device or compares with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import PILReader
from monai.transforms import Compose, LoadImaged, RandFlipd, RandRotate90d, RandSpatialCropd

from miram.transforms.windows import center_windows, load_windows, scale_windows

# what a transform has drawn, and how it was last run
_STATE = {"R", "_do_transform", "_rand_k", "_slices", "_size", "_offset", "_axis", "_tracing"}


def standard_transforms(
    crop_size: Sequence[int], preprocessing: Mapping[str, Any], random: bool, key: str = "label"
) -> Compose:
    """
    A crop's file to the network's window: random in training, central in validation.

    Args:
        crop_size: the window in pixels.
        preprocessing: "a_min" and "a_max", stored values, which become "b_min" and "b_max".
        random: of training.
        key: of the path in a sample, and of the window.
    """
    reader: Any = PILReader(reverse_indexing=False)
    load = LoadImaged(key, reader=reader, ensure_channel_first=True, image_only=True)
    steps = [*load_windows(key, load, crop_size), *scale_windows(key, preprocessing)]
    if not random:
        return Compose([*steps, *center_windows(key, crop_size)])
    turns = [RandRotate90d(key, prob=0.5, max_k=3)] if len(set(crop_size)) == 1 else []
    flips = [RandFlipd(key, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    return Compose([*steps, RandSpatialCropd(key, crop_size, random_size=False), *flips, *turns])


def is_standard(transform: Compose, crop_size: Sequence[int], preprocessing: Mapping[str, Any], random: bool) -> bool:
    """Whether transforms are of the kinds of :func:`standard_transforms`, with the same settings."""
    return _settings(transform) == _settings(standard_transforms(crop_size, preprocessing, random))


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
