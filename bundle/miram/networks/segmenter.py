"""A segmentation network on the ViT encoder: UNETR's decoder, for any number of blocks and size of patches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import nn

from miram.networks.classifier import FreezableEncoder, set_layer_norm_eps
from miram.networks.vit_encoder import ViTEncoder


def describes_segmenter(network_def: Mapping[str, Any]) -> bool:
    """Whether a file's "network_def" are arguments of :class:`ViTSegmenter`, and not those of a classifier."""
    return "feature_size" in network_def


class ViTSegmenter(FreezableEncoder):
    """
    UNETR (Hatamizadeh et al., arXiv 2103.10504) of MONAI's blocks on our encoder.

    With 12 blocks and patches of 16 it is `monai.networks.nets.UNETR`, which has no other sizes: the tokens after
    evenly spaced blocks are the skip connections. A patch of 2 ** n pixels gives n steps of the decoder.

    Args:
        encoder: arguments of :class:`miram.networks.vit_encoder.ViTEncoder`, plain values.
        out_channels: logits per pixel, K; 1 for lesion or not.
        feature_size: channels at full resolution; they double at each coarser grid.

    Raises:
        ValueError: if the patches are not squares or cubes of 2, 4, 8, ... pixels.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        out_channels: int = 1,
        feature_size: int = 16,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.encoder = ViTEncoder(**encoder)
        set_layer_norm_eps(self.encoder, layer_norm_eps)
        self.network_def: dict[str, Any] = {
            "encoder": dict(encoder),
            "out_channels": out_channels,
            "feature_size": feature_size,
            "layer_norm_eps": layer_norm_eps,
        }
        sizes = set(self.encoder.patch_size)
        steps = round(math.log2(max(sizes)))
        if len(sizes) > 1 or steps < 1 or 2**steps != max(sizes):
            raise ValueError(f"patch_size must be 2, 4, 8, ... along every axis, got {list(self.encoder.patch_size)}.")
        layers, dims, width = len(self.encoder.blocks), self.encoder.spatial_dims, self.encoder.hidden_size
        self.layers = [min(round(step * layers / steps), layers - 1) for step in range(1, steps)]
        common: dict[str, Any] = {"spatial_dims": dims, "kernel_size": 3, "norm_name": "instance", "res_block": True}
        self.image_block = UnetrBasicBlock(
            in_channels=self.encoder.in_channels, out_channels=feature_size, stride=1, **common
        )
        self.skips = nn.ModuleList(
            UnetrPrUpBlock(
                in_channels=width,
                out_channels=feature_size * 2**step,
                num_layer=steps - 1 - step,
                stride=1,
                upsample_kernel_size=2,
                conv_block=True,
                **common,
            )
            for step in range(1, steps)
        )
        channels = [feature_size * 2**step for step in range(steps)] + [width]
        self.ups = nn.ModuleList(
            UnetrUpBlock(in_channels=channels[step + 1], out_channels=channels[step], upsample_kernel_size=2, **common)
            for step in range(steps)
        )
        self.out = UnetOutBlock(dims, feature_size, out_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The logits (B, K, *spatial) of images (B, C, *spatial)."""
        states = self.encoder.hidden_states(image)
        skips = [block(self._grid(states[layer])) for block, layer in zip(self.skips, self.layers, strict=True)]
        decoded = self._grid(states[-1])
        for up, skip in reversed(list(zip(self.ups, [self.image_block(image), *skips], strict=True))):
            decoded = up(decoded, skip)
        return self.out(decoded)

    def _grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, D, *grid)."""
        return tokens.transpose(1, 2).unflatten(2, self.encoder.grid)
