"""What all decoders share: placing visible tokens on a scale's grid, and predicting pixels from each token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from torch import nn

from miram.masking import hidden_mask
from miram.networks.patches import scaled_grid
from miram.networks.vit_encoder import ViTEncoder, check_sincos_width, initialize_mae_weights, run_block


class Decoded(NamedTuple):
    """What a decoder returns for a batch."""

    prediction: torch.Tensor  # (B, n, P + extra_outputs) predicted patches
    mask: torch.Tensor  # (B, n) bool, True where a patch is hidden and therefore counts in the loss
    # (B, n) int64, each patch's index on the scale's grid; None for the whole grid (n = N_s) in row-major order
    places: torch.Tensor | None = None


class Decoder(nn.Module):
    """
    A decoder without a forward pass: a subclass defines how tokens become predictions.

    Args:
        encoder: the encoder whose tokens are decoded; only its sizes are read.
        scale: size of the reconstruction divided by the size of the encoder's image.
        hidden_size: width of a decoder token.
        blocks: the transformer blocks.
        token_scale: scale of the grid of tokens; by default that of the reconstruction.
        patches_per_token: number of patches that a token predicts.
        activation_checkpointing: recompute the blocks in the backward pass to save memory; by default as the encoder
            does.
        extra_outputs: numbers that are predicted for each patch, behind its pixels.

    Raises:
        ValueError: if a scale does not give a whole grid, or the width does not fit the positions.
    """

    def __init__(
        self,
        encoder: ViTEncoder,
        scale: float,
        hidden_size: int,
        blocks: Iterable[nn.Module],
        token_scale: float | None = None,
        patches_per_token: int = 1,
        activation_checkpointing: bool | None = None,
        extra_outputs: int = 0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.patch_size = encoder.patch_size
        self.encoder_grid = encoder.grid
        self.grid = scaled_grid(encoder.grid, scale)
        self.token_grid = scaled_grid(encoder.grid, scale if token_scale is None else token_scale)
        self.num_prefix_tokens = prefix_tokens(encoder)
        self.activation_checkpointing = (
            encoder.activation_checkpointing if activation_checkpointing is None else activation_checkpointing
        )
        check_sincos_width(hidden_size, encoder.spatial_dims)

        self.embedding = nn.Linear(encoder.hidden_size, hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embeddings = build_sincos_position_embedding(
            list(self.token_grid), hidden_size, encoder.spatial_dims
        )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(hidden_size)
        outputs = math.prod(self.patch_size) * encoder.in_channels + extra_outputs
        self.head = nn.Linear(hidden_size, patches_per_token * outputs)
        initialize_mae_weights(self)

    def forward(self, latent: torch.Tensor, keep: torch.Tensor) -> Decoded:
        """
        Decode the visible tokens.

        Args:
            latent: (B, [1 +] V, D) tokens from the encoder.
            keep: (B, V) their indices on the encoder's grid.

        Returns:
            the patches of the scale's grid: all in evaluation, possibly only some in training.
        """
        raise NotImplementedError

    def hidden(self, keep: torch.Tensor) -> torch.Tensor:
        """
        The patches of which the encoder saw no part: all that can count in the loss.

        Args:
            keep: (B, V) the visible patches of the encoder's grid.

        Returns:
            (B, N_s) bool; in evaluation the same mask as that of the forward pass.
        """
        return scale_mask(hidden_mask(keep, math.prod(self.encoder_grid)), self.encoder_grid, self.grid)

    def embed(self, latent: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Project the latent: to the class token (B, 0 or 1, D), if any, and the visible patches' tokens (B, V, D)."""
        prefix, visible = self.embedding(latent).split((self.num_prefix_tokens, keep.shape[1]), dim=1)
        return prefix, visible

    def lay_out(self, visible: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """
        Token interpolation: visible tokens (B, V, D) at their places and the mask token at all others, interpolated to
        the grid of tokens, plus its positions: (B, N, D).
        """
        places = self.mask_token.to(visible.dtype).expand(visible.shape[0], math.prod(self.encoder_grid), -1)
        tokens = places.scatter(1, keep[..., None].expand_as(visible), visible)
        return interpolate_tokens(tokens, self.encoder_grid, self.token_grid) + self.position_embeddings

    def run_blocks(self, tokens: torch.Tensor, *context: torch.Tensor) -> torch.Tensor:
        """Run all blocks on tokens (B, N, D)."""
        for block in self.blocks:
            tokens = run_block(block, tokens, self.activation_checkpointing and self.training, *context)
        return tokens


def prefix_tokens(encoder: ViTEncoder) -> int:
    """The number of tokens before those of the patches: 1 with a class token, otherwise 0."""
    return 0 if encoder.cls_token is None else 1


def interpolate_tokens(tokens: torch.Tensor, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """
    Interpolate tokens (B, N, D) linearly from one grid to another, as if they were the pixels of an image with D
    channels.

    Args:
        tokens: (B, prod(source), D) in row-major order.

    Returns:
        (B, prod(target), D)
    """
    if tuple(source) == tuple(target):
        return tokens
    image = tokens.transpose(1, 2).unflatten(2, tuple(source))
    mode = "bilinear" if len(source) == 2 else "trilinear"
    return F.interpolate(image, size=tuple(target), mode=mode, align_corners=False).flatten(2).transpose(1, 2)


def scale_mask(mask: torch.Tensor, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """
    Transfer a mask to another grid: a patch there is hidden if all patches that it overlaps on this grid are hidden.

    Args:
        mask: (B, prod(source)) bool, True where hidden.

    Returns:
        (B, prod(target)) bool
    """
    if tuple(source) == tuple(target):
        return mask
    visible = (~mask).float().unflatten(1, tuple(source))[:, None]
    # the windows of adaptive pooling are exactly the overlapping patches, for finer and for coarser grids
    pool = F.adaptive_max_pool2d if len(source) == 2 else F.adaptive_max_pool3d
    return pool(visible, tuple(target)).flatten(1) == 0
