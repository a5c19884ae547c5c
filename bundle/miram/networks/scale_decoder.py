"""A decoder for one scale: from the visible tokens of the encoder to the pixels of the whole image at that scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from torch import nn

from miram.masking import hidden_mask
from miram.networks.attention import make_attention
from miram.networks.initialization import initialize_mae_weights
from miram.networks.patches import scaled_grid
from miram.networks.vit_encoder import ViTEncoder, check_sincos_width, run_block


class DecoderBlock(nn.Module):
    """
    A pre-norm transformer block like MONAI's `TransformerBlock`, with a choice of attention.

    Args:
        hidden_size: width of a token, D.
        num_heads: attention heads.
        seq_len: tokens of a sequence, which some kinds of attention must know.
        mlp_ratio: width of the feed-forward layer over D.
        attention: "exact", "nystromformer", "linformer" or "performer".
        attention_kwargs: further arguments of that attention.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        mlp_ratio: float = 4.0,
        attention: str = "exact",
        attention_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        stock = TransformerBlock(hidden_size, int(hidden_size * mlp_ratio), num_heads, qkv_bias=True)
        self.norm1, self.norm2, self.mlp = stock.norm1, stock.norm2, stock.mlp
        self.attn = make_attention(
            attention, hidden_size, num_heads, seq_len, qkv_bias=True, **(attention_kwargs or {})
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ScaleDecoder(nn.Module):
    """
    Reconstruct an image at one scale by token interpolation (MIRAM, arXiv 2503.07157).

    The visible tokens are put back at their places on the encoder's grid, a learned mask token at all others; the grid
    is interpolated to the scale's own (14 x 14 to 28 x 28 at 2x), gets its own positions, runs through its own blocks,
    and each token predicts the pixels of its own patch. At scale 1 nothing is interpolated: that is MAE's decoder.

    Args:
        encoder: the encoder whose tokens are decoded; only its sizes are read.
        scale: size of the reconstruction over the size of the encoder's image.
        hidden_size: width of a decoder token.
        num_layers: transformer blocks.
        num_heads: attention heads.
        mlp_ratio: width of the feed-forward layers over `hidden_size`.
        attention: "exact", "nystromformer", "linformer" or "performer".
        attention_kwargs: further arguments of that attention.
        activation_checkpointing: compute the blocks again in the backward pass, to save memory; by default as the
            encoder does.

    Raises:
        ValueError: if the scale gives no whole grid, or the width fits neither heads nor positions.
    """

    def __init__(
        self,
        encoder: ViTEncoder,
        scale: float = 1,
        hidden_size: int = 512,
        num_layers: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        attention: str = "exact",
        attention_kwargs: Mapping[str, Any] | None = None,
        activation_checkpointing: bool | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.patch_size = encoder.patch_size
        self.encoder_grid = encoder.grid
        self.grid = scaled_grid(encoder.grid, scale)
        self.num_prefix_tokens = 0 if encoder.cls_token is None else 1
        self.activation_checkpointing = (
            encoder.activation_checkpointing if activation_checkpointing is None else activation_checkpointing
        )
        check_sincos_width(hidden_size, encoder.spatial_dims)

        self.embedding = nn.Linear(encoder.hidden_size, hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embeddings = build_sincos_position_embedding(list(self.grid), hidden_size, encoder.spatial_dims)
        seq_len = math.prod(self.grid) + self.num_prefix_tokens
        self.blocks = nn.ModuleList(
            DecoderBlock(hidden_size, num_heads, seq_len, mlp_ratio, attention, attention_kwargs)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, math.prod(self.patch_size) * encoder.in_channels)
        initialize_mae_weights(self)

    def forward(self, latent: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Decode the visible tokens.

        Args:
            latent: (B, [1 +] V, D) tokens from the encoder.
            keep: (B, V) their places on the encoder's grid.

        Returns:
            predicted patches (B, N_s, P) of the scale's grid in row-major order, and the mask (B, N_s), True where a
            patch is hidden and so counts in the loss.
        """
        tokens = self.embedding(latent)
        prefix, visible = tokens.split((self.num_prefix_tokens, keep.shape[1]), dim=1)
        # every place of the encoder's grid holds the mask token, but for those that the encoder saw
        places = self.mask_token.to(visible.dtype).expand(visible.shape[0], math.prod(self.encoder_grid), -1)
        tokens = places.scatter(1, keep[..., None].expand_as(visible), visible)
        tokens = interpolate_tokens(tokens, self.encoder_grid, self.grid) + self.position_embeddings
        tokens = torch.cat((prefix, tokens), dim=1)
        for block in self.blocks:
            tokens = run_block(block, tokens, self.activation_checkpointing and self.training)
        prediction = self.head(self.norm(tokens[:, self.num_prefix_tokens :]))
        return prediction, self.hidden(keep)

    def hidden(self, keep: torch.Tensor) -> torch.Tensor:
        """The mask (B, N_s) of the scale's grid for the visible patches `keep` (B, V) of the encoder's."""
        return scale_mask(hidden_mask(keep, math.prod(self.encoder_grid)), self.encoder_grid, self.grid)


def interpolate_tokens(tokens: torch.Tensor, source: Sequence[int], target: Sequence[int]) -> torch.Tensor:
    """
    Interpolate tokens (B, N, D) linearly from one grid to another, as if they were the pixels of an image with D
    channels.

    Args:
        tokens: (B, prod(source), D) in row-major order.
        source: grid of the tokens given.
        target: grid of the tokens wanted.

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
    Carry a mask to another grid: a patch there is hidden if every patch that it overlaps here is hidden.

    Args:
        mask: (B, prod(source)) bool, True where hidden.
        source: grid of the mask given.
        target: grid of the mask wanted.

    Returns:
        (B, prod(target)) bool
    """
    if tuple(source) == tuple(target):
        return mask
    visible = (~mask).float().unflatten(1, tuple(source))[:, None]
    # the windows of adaptive pooling are just the patches that overlap, for finer and for coarser grids
    pool = F.adaptive_max_pool2d if len(source) == 2 else F.adaptive_max_pool3d
    return pool(visible, tuple(target)).flatten(1) == 0
