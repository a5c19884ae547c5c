"""A residual network to compare with, from random or ImageNet weights, trained by the fine-tuning of the encoders."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from monai.networks.nets import resnet18, resnet50
from torch import nn

from miram.errors import InputError
from miram.inference.classifying import TrainedClassifier, load_trained
from miram.weights.pretrained import is_none, read_weights
from miram.weights.public_weights import unwrap
from studies.comparison.pooled_classifier import PooledClassifier, pool_of, prepare_for

logger = logging.getLogger(__name__)

ARCHITECTURES = {"resnet18": (resnet18, 512), "resnet50": (resnet50, 2048)}


class CNNClassifier(PooledClassifier):
    """
    MONAI's ResNet (He et al., arXiv 1512.03385), with the attributes that fine-tuning needs of a classifier.

    Args:
        num_classes: logits, K; 1 for a binary task.
        stem_stride: of the first convolution; the original's 2 is for images of 224 pixels, 1 keeps more of small ones.
        architecture: "resnet18" or "resnet50".
        pool: "summary", the mean over places; or "attention".
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 2,
        stem_stride: int = 1,
        architecture: str = "resnet18",
        pool: str = "summary",
    ) -> None:
        network_def = {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "spatial_dims": spatial_dims,
            "stem_stride": stem_stride,
            "architecture": architecture,
            "pool": pool,
        }
        make, width = ARCHITECTURES[architecture]
        super().__init__(network_def, width, num_classes, pool)
        self.body = make(
            spatial_dims=spatial_dims, n_input_channels=in_channels, conv1_t_stride=stem_stride, feed_forward=False
        )

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """The last feature map, a token for each place: (B, N, D)."""
        body: Any = self.body
        found = body.maxpool(body.act(body.bn1(body.conv1(image))))
        for layer in (body.layer1, body.layer2, body.layer3, body.layer4):
            found = layer(found)
        return found.flatten(2).transpose(1, 2)


def make_cnn(
    num_classes: int,
    in_channels: int,
    spatial_dims: int,
    stem_stride: int,
    architecture: str = "resnet18",
    weights: str | None = None,
    mode: str = "finetune",
) -> PooledClassifier:
    """
    Build a CNN and load its initial weights.

    Args:
        weights: a file with the state of torchvision's or timm's network of that name, for example of ImageNet; None or
            "none" for random weights.
        mode: of configs/finetune.yaml.

    Raises:
        InputError: if the architecture is unknown, or the weights do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"architecture is {architecture!r}; give one of {', '.join(ARCHITECTURES)}")
    network = CNNClassifier(num_classes, in_channels, spatial_dims, stem_stride, architecture, pool_of(mode))
    if weights is not None and not is_none(weights):
        load_imagenet_weights(network.body, weights)
    return prepare_for(network, mode)


def load_imagenet_weights(body: nn.Module, path: str | os.PathLike[str]) -> None:
    """
    Load the weights of torchvision's or timm's ResNet; MONAI's has the same keys. The three colors of the first layer
    are summed, since a gray image is the same in all three.

    Args:
        body: MONAI's ResNet for gray images, changed in place.

    Raises:
        InputError: if a weight is missing or of another shape.
    """
    own, given = body.state_dict(), unwrap(read_weights(path, "weights"))
    first = given.get("conv1.weight")
    if first is not None and first.ndim == own["conv1.weight"].ndim and own["conv1.weight"].shape[1] == 1:
        given["conv1.weight"] = first.sum(dim=1, keepdim=True)
    fitting = {key: value for key, value in given.items() if key in own and value.shape == own[key].shape}
    missing = sorted(own.keys() - fitting.keys() - {key for key in own if key.endswith("num_batches_tracked")})
    if missing:
        raise InputError(
            f"{path} is not a ResNet of this architecture: {len(missing)} of {len(own)} weights are missing or of "
            f"another shape, such as {missing[0]}. Give a file of torchvision or timm, or another --architecture"
        )
    body.load_state_dict(fitting, strict=False)
    unused = ", ".join(sorted(given.keys() - fitting.keys())) or "none"
    logger.info("ImageNet weights: all of %s loaded; unused: %s", path, unused)


def load_trained_cnn(path: str | os.PathLike[str], task: str | None = None) -> TrainedClassifier:
    """Load the `model.pt` of a :class:`CNNClassifier`; arguments and errors are those of `load_trained`."""
    return load_trained(path, task, CNNClassifier)
