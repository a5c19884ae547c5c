"""Encoder and projector, for methods that compare two views of an image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from miram.networks.vit_encoder import ViTEncoder


class TwoViewNetwork(nn.Module):
    """
    One encoder and one projector, applied to both views of an image (Barlow Twins, arXiv 2103.03230).

    Batch normalisation and the loss compare the images of a batch. So of several processes each encodes its own images,
    and projects those of all: the projector costs little beside the encoder, and nothing else needs to be exchanged.

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
        Embed both views of the images of all processes, which call it together.

        Args:
            first: (B, C, *spatial) of the encoder's size.
            second: the same images in another view.

        Returns:
            the embeddings of both views, each (B of all processes, P), P the projector's last width.
        """
        return self.embed(first), self.embed(second)

    def embed(self, view: torch.Tensor) -> torch.Tensor:
        """The projected class tokens, or the projected means of the patches if there is no class token."""
        return self.projector(_of_all_processes(self.encoder.pool(self.encoder(view))))


def _of_all_processes(features: torch.Tensor) -> torch.Tensor:
    """The features of all processes, (B of all, D), one process after the other."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return features
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=features.device)
    counts[dist.get_rank()] = len(features)  # in validation they may differ
    dist.all_reduce(counts)
    parts = [features.new_zeros(count, features.shape[1]) for count in counts.tolist()]
    parts[dist.get_rank()] = features
    return _SumOverProcesses.apply(torch.cat(parts))


class _SumOverProcesses(torch.autograd.Function):
    """
    A sum over the processes, whose gradient is the sum of theirs.

    Where all processes compute the same loss from it, that is as many times the gradient as there are processes. Data
    parallelism divides by their number, which leaves the gradient of the global batch.
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total
