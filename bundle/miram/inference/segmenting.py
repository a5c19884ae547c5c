"""A trained segmentation applied to sliding windows of images, and the regions of its masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import convert_to_tensor
from scipy import ndimage
from torch.nn import functional

from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.inference.classifying import TrainedClassifier, load_trained
from miram.inference.windows import Region, WindowFunction, check_windows
from miram.networks.segmenter import ViTSegmenter


def load_segmenter(path: str | os.PathLike[str], spatial_dims: int | None = None) -> TrainedClassifier:
    """
    Load a segmentation network, the `model.pt` of a run of segment.yaml.

    Args:
        spatial_dims: of the images that it must be for; None accepts any.

    Raises:
        InputError: if there is no such file, or it is damaged, a classifier, or for images with other axes.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no trained model {path}: train one first (configs/finetune.yaml with configs/segment.yaml), or "
            "give --model"
        )
    trained = load_trained(path, "segmentation", make=ViTSegmenter)
    found = trained.network.encoder.spatial_dims
    if spatial_dims not in (None, found):
        raise InputError(
            f"{path} segments images with {found} axes, not {spatial_dims}; segment_evaluate.yaml applies it to the "
            "images of a prepared folder"
        )
    return trained


class SegmentationInferer(SlidingWindowInferer):
    """
    Probabilities of the pixels of whole images, from windows that are reduced to the network's size as in training.

    Overlapping windows are averaged, with less weight near their edges.

    Args:
        roi_size: size of a window, in pixels of the image.
        overlap: share of a window that the next one also covers.
        sw_batch_size: windows that are segmented at once; memory grows with it.
        preprocessing: turns windows (B, 1, *spatial) into the network's input.
        threshold: of the masks whose regions are wanted.
        precision: in which the network computes, see :func:`miram.engines.steps.autocast`; probabilities are float32.

    Raises:
        InputError: if `overlap` or `sw_batch_size` is out of range.
    """

    roi_size: Sequence[int]

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float,
        sw_batch_size: int,
        preprocessing: WindowFunction,
        threshold: float = 0.5,
        progress: bool = False,
        precision: str = "float32",
    ) -> None:
        check_windows(overlap, sw_batch_size)
        super().__init__(roi_size, sw_batch_size, overlap, mode="gaussian", progress=progress)
        self.precision = precision
        self.preprocessing = preprocessing
        self.threshold = threshold

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Segment images.

        Args:
            inputs: (B, 1, *spatial), 0..65535. Images smaller than a window are padded with 0, air.
            network: returns logits (B, 1, *image_size) for preprocessed windows.

        Returns:
            (B, 1, *spatial), float32 from 0 to 1.
        """

        def probability(windows: torch.Tensor) -> torch.Tensor:
            logits = in_precision(network, self.precision)(self.preprocessing(windows), *args, **kwargs)
            mode = "bilinear" if windows.ndim == 4 else "trilinear"
            return functional.interpolate(logits, size=windows.shape[2:], mode=mode, align_corners=False).sigmoid()

        found = super().__call__(convert_to_tensor(inputs, track_meta=False), probability)
        assert isinstance(found, torch.Tensor)
        return found

    def regions(self, probability: np.ndarray, count: int = 10) -> list[MaskRegion]:
        """The regions (at most `count`) of the mask of a map (H, W), those with the highest points first."""
        return mask_regions(probability >= self.threshold, probability)[:count]


@dataclass(frozen=True)
class MaskRegion(Region):
    """A connected region of a mask; its probability, row and column are those of its highest point."""

    pixels: int  # its area


def mask_regions(mask: np.ndarray, probability: np.ndarray) -> list[MaskRegion]:
    """
    The connected regions of a mask, those with the highest points first; pixels that touch at a corner are connected.

    Args:
        mask: (H, W), 0 or 1.
        probability: (H, W), from which the mask was made.
    """
    labels, number = ndimage.label(mask, np.ones((3, 3)))
    places = ndimage.maximum_position(probability, labels, range(1, number + 1))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    found = [
        MaskRegion(float(probability[row, column]), int(row), int(column), int(size))
        for (row, column), size in zip(places, sizes, strict=True)
    ]
    return sorted(found, key=lambda region: -region.probability)
