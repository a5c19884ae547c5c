"""
Controls: pretrainings without one feature of MIRAM, to find out where its gain comes from.

Each is an overlay (`configs/control_*.yaml`) for `scripts/compare.py --variants`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from miram.engines.pretraining import PreparePretrainingBatch
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.losses.targets import patch_statistics
from miram.networks.decoders.factory import make_decoder
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder


def all_at_1x(
    encoder: ViTEncoder, decoders: Sequence[Mapping[str, Any]], extra_outputs: int = 0, texture_outputs: int = 0
) -> MIRAM:
    """The decoders, each at the encoder's own scale: a second loss without a second scale."""
    first, *others = [
        make_decoder(encoder, extra_outputs=extra_outputs, **{**decoder, "scale": 1}) for decoder in decoders
    ]
    network = MIRAM(encoder, [first], texture_outputs=texture_outputs)
    network.decoders.extend(others)  # after the check that scales differ
    return network


def only_1x(encoder: ViTEncoder, decoders: Sequence[Mapping[str, Any]], **outputs: int) -> MIRAM:
    """Only the decoder at the encoder's own scale."""
    return MIRAM(encoder, [decoder for decoder in decoders if decoder["scale"] == 1], **outputs)


def without_detail(label: torch.Tensor, image_size: Sequence[int]) -> torch.Tensor:
    """Downsample an image (B, C, *spatial) to `image_size` and enlarge it again: 2x pixels with the detail of 1x."""
    mode = "bicubic" if label.ndim == 4 else "trilinear"
    return F.interpolate(downsample(label, image_size), size=label.shape[2:], mode=mode)


class PrepareWithoutDetail(PreparePretrainingBatch):
    """Like :class:`miram.engines.PreparePretrainingBatch`, but targets have no more detail than the encoder's image."""

    def __call__(
        self, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor], dict[str, Any]]:
        """Like the base class, with the label enlarged from the image."""
        image, label, keep, options = super().__call__(*args, **kwargs)
        return image, without_detail(label, self.image_size), keep, options


class QuarterLoss(MultiScaleReconstructionLoss):
    """Targets normalised over the halves of a patch along each dimension: as finely as those of a 2x decoder."""

    def normalize(self, patches: torch.Tensor) -> torch.Tensor:
        """Subtract each part's mean and divide by its floored standard deviation: (B, N, P) to (B, N, P)."""
        dims = len(self.patch_size)
        halves = [part for size in self.patch_size for part in (2, size // 2)]
        order = [0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2), 2 + 2 * dims]
        parts = patches.unflatten(2, (*halves, -1)).permute(order)  # (B, N, 2, 2, p / 2, q / 2, C)
        mean, std = patch_statistics(parts.flatten(2 + dims), self.patch_std_floor)
        mean, std = (value.reshape(*value.shape[:-1], *[1] * (dims + 1)) for value in (mean, std))
        return ((parts - mean) / std).permute(np.argsort(order).tolist()).flatten(2)
