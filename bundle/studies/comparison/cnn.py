"""A residual network to compare with: trained from random weights by the fine-tuning of the encoders."""

from __future__ import annotations

import os
from typing import Any

import torch
from monai.networks.nets import resnet18
from torch import nn

from miram.inference.classifying import TrainedClassifier, load_trained


class CNNClassifier(nn.Module):
    """
    MONAI's ResNet-18 (He et al., arXiv 1512.03385), with the attributes that fine-tuning needs of a classifier.

    Args:
        num_classes: logits, K; 1 for a binary task.
        in_channels: of the images.
        spatial_dims: 2 or 3.
        stem_stride: of the first convolution; the original's 2 is for images of 224 pixels, 1 keeps more of small ones.
    """

    def __init__(self, num_classes: int, in_channels: int = 1, spatial_dims: int = 2, stem_stride: int = 1) -> None:
        super().__init__()
        self.network_def: dict[str, Any] = {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "spatial_dims": spatial_dims,
            "stem_stride": stem_stride,
        }
        self.body = resnet18(
            spatial_dims=spatial_dims, n_input_channels=in_channels, conv1_t_stride=stem_stride, feed_forward=False
        )
        self.classification_head = nn.Linear(512, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (B, K) of images (B, C, *spatial)."""
        return self.classification_head(self.body(image))


def load_trained_cnn(path: str | os.PathLike[str], task: str | None = None) -> TrainedClassifier:
    """Load the `model.pt` of a :class:`CNNClassifier`; arguments and errors are those of `load_trained`."""
    return load_trained(path, task, CNNClassifier)
