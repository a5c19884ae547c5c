"""A trained segmentation applied to windows of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.inference.classifying import TrainedClassifier, load_trained
from miram.losses.reconstruction import downsample
from miram.networks.segmenter import ViTSegmenter


def load_segmenter(path: str | os.PathLike[str]) -> TrainedClassifier:
    """
    Load a segmentation network.

    Raises:
        InputError: if there is no such file, or it is damaged or a classifier.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no trained model {path}: train one first (configs/finetune.yaml with configs/segment.yaml), or "
            "give --model"
        )
    return load_trained(path, "segmentation", make=ViTSegmenter)


class WindowSegmenter(nn.Module):
    """
    Probabilities of the pixels of windows, which are downsampled to the network's size as in training.

    Args:
        network: returns logits (B, 1, *image_size).
        image_size: of the network's input.
        precision: in which the network computes, see :func:`miram.engines.steps.autocast`; probabilities are float32.
    """

    def __init__(self, network: nn.Module, image_size: Sequence[int], precision: str = "float32") -> None:
        super().__init__()
        self.network = network
        self.image_size = tuple(image_size)
        self.precision = precision

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Map windows (B, 1, *spatial) to probabilities (B, 1, *spatial)."""
        logits = in_precision(self.network, self.precision)(downsample(windows, self.image_size))
        mode = "bilinear" if windows.ndim == 4 else "trilinear"
        return functional.interpolate(logits, size=windows.shape[2:], mode=mode, align_corners=False).sigmoid()
