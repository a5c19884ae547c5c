"""Encoder and projector, for methods that compare two views of an image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from miram.networks.vit_encoder import ViTEncoder


class TwoViewNetwork(nn.Module):
    """
    One encoder and one projector, applied to both views of an image (Barlow Twins, arXiv 2103.03230).

    Args:
        encoder: the encoder that is pretrained; it sees whole images.
        projection_sizes: widths of the projector's layers. All but the last are followed by batch normalisation and
            ReLU. The projector is needed only for training and is not part of the backbone.

    Raises:
        ValueError: if the projector has no layers.
    """

    def __init__(self, encoder: ViTEncoder, projection_sizes: Sequence[int] = (2048, 2048, 2048)) -> None:
        super().__init__()
        if not projection_sizes:
            raise ValueError("projection_sizes must name at least one layer.")
        self.encoder = encoder
        widths = [encoder.hidden_size, *projection_sizes]
        layers: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(width, next_width, bias=False), nn.BatchNorm1d(next_width), nn.ReLU(inplace=True)]
        self.projector = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=False))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Embed both views.

        Args:
            first: (B, C, *spatial) of the encoder's size.
            second: the same images in another view.

        Returns:
            the embeddings of both views, each (B, P), P the projector's last width.
        """
        return self.embed(first), self.embed(second)

    def embed(self, view: torch.Tensor) -> torch.Tensor:
        """The projected class token, or the projected mean of the patches if there is no class token, (B, P)."""
        return self.projector(self.encoder.pool(self.encoder(view)))
