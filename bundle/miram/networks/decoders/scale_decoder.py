"""The decoders for one scale whose tokens attend to each other: on the scale's own grid, or on the encoder's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks import TransformerBlock
from torch import nn

from miram.networks.attention import make_attention
from miram.networks.decoders.base import Decoded, Decoder, prefix_tokens
from miram.networks.patches import scaled_grid
from miram.networks.vit_encoder import ViTEncoder


class DecoderBlock(nn.Module):
    """
    A pre-norm transformer block like MONAI's `TransformerBlock`, with a choice of attention.

    Args:
        seq_len: tokens in a sequence, which some kinds of attention need to know.
        grid: the grid of the last tokens of a sequence, which windows need to know.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        mlp_ratio: float = 4.0,
        attention: str = "exact",
        attention_kwargs: Mapping[str, Any] | None = None,
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        stock = TransformerBlock(hidden_size, int(hidden_size * mlp_ratio), num_heads, qkv_bias=True)
        self.norm1, self.norm2, self.mlp = stock.norm1, stock.norm2, stock.mlp
        self.attn = make_attention(
            attention, hidden_size, num_heads, seq_len, qkv_bias=True, grid=grid, **(attention_kwargs or {})
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ScaleDecoder(Decoder):
    """
    Reconstruct an image at one scale by token interpolation (MIRAM, arXiv 2503.07157): the reference decoder, and the
    most expensive one.

    The visible tokens are put back at their places on the encoder's grid, with a learned mask token at all others. The
    grid is interpolated to that of the scale (14 x 14 to 28 x 28 at 2x), positions are added, the blocks run, and each
    token predicts the pixels of its patch. At scale 1 nothing is interpolated: this is MAE's decoder.

    Width and depth determine the cost: at 2x a 256 x 2 decoder takes a thirteenth of the operations of MAE's 512 x 8.

    Args:
        encoder: the encoder whose tokens are decoded; only its sizes are read.
        scale: size of the reconstruction divided by the size of the encoder's image.
        hidden_size: width of a decoder token.
        mlp_ratio: width of the feed-forward layers divided by `hidden_size`.
        attention: "exact", "nystromformer", "linformer", "performer" or "windowed".
        attention_kwargs: further arguments of that attention.
        activation_checkpointing: recompute the blocks in the backward pass to save memory; by default as the encoder
            does.
        extra_outputs: numbers that are predicted for each patch, behind its pixels.

    Raises:
        ValueError: if the scale does not give a whole grid, or the width does not fit heads or positions.
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
        extra_outputs: int = 0,
    ) -> None:
        grid = scaled_grid(encoder.grid, scale)
        seq_len = math.prod(grid) + prefix_tokens(encoder)
        blocks = (
            DecoderBlock(hidden_size, num_heads, seq_len, mlp_ratio, attention, attention_kwargs, grid)
            for _ in range(num_layers)
        )
        super().__init__(
            encoder,
            scale,
            hidden_size,
            blocks,
            activation_checkpointing=activation_checkpointing,
            extra_outputs=extra_outputs,
        )

    def forward(self, latent: torch.Tensor, keep: torch.Tensor) -> Decoded:
        """Decode the visible tokens; see :meth:`Decoder.forward`. Every hidden patch counts in the loss."""
        prefix, visible = self.embed(latent, keep)
        tokens = torch.cat((prefix, self.lay_out(visible, keep)), dim=1)
        tokens = self.run_blocks(tokens)
        return Decoded(self.head(self.norm(tokens[:, self.num_prefix_tokens :])), self.hidden(keep))


class SubPixelDecoder(Decoder):
    """
    Predict fine patches from coarse tokens: a 2x reconstruction for little more than the cost of the 1x blocks.

    The blocks run on the encoder's grid. The last layer is wider and predicts, from each token, all patches of the
    finer grid inside the token's patch (in two dimensions the sub-pixel convolution of Shi et al., arXiv 1609.05158).
    So the scale has no token grid of its own, but its targets and loss are the same as for any other decoder.

    Args:
        scale: a whole number; the other arguments are those of :class:`ScaleDecoder`.

    Raises:
        ValueError: if the scale is not a whole number, or the width does not fit heads or positions.
    """

    def __init__(
        self,
        encoder: ViTEncoder,
        scale: float = 2,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        attention: str = "exact",
        attention_kwargs: Mapping[str, Any] | None = None,
        activation_checkpointing: bool | None = None,
        extra_outputs: int = 0,
    ) -> None:
        if scale < 1 or scale != round(scale):
            raise ValueError(
                f"a sub_pixel decoder splits each token into whole patches and needs a whole scale, got {scale}. "
                "Choose 1, 2, 4 ..., or another kind of decoder."
            )
        self.factor = round(scale)
        seq_len = math.prod(encoder.grid) + prefix_tokens(encoder)
        blocks = (
            DecoderBlock(hidden_size, num_heads, seq_len, mlp_ratio, attention, attention_kwargs, encoder.grid)
            for _ in range(num_layers)
        )
        super().__init__(
            encoder,
            scale,
            hidden_size,
            blocks,
            token_scale=1,
            patches_per_token=self.factor**encoder.spatial_dims,
            activation_checkpointing=activation_checkpointing,
            extra_outputs=extra_outputs,
        )

    def forward(self, latent: torch.Tensor, keep: torch.Tensor) -> Decoded:
        """Decode the visible tokens; see :meth:`Decoder.forward`. Every hidden patch counts in the loss."""
        prefix, visible = self.embed(latent, keep)
        tokens = self.run_blocks(torch.cat((prefix, self.lay_out(visible, keep)), dim=1))
        prediction = self.head(self.norm(tokens[:, self.num_prefix_tokens :]))
        return Decoded(split_tokens(prediction, self.token_grid, self.factor), self.hidden(keep))


def split_tokens(tokens: torch.Tensor, grid: Sequence[int], factor: int) -> torch.Tensor:
    """
    Give each part of a token its own place on a grid that is `factor` times as fine.

    Args:
        tokens: (B, prod(grid), factor^d * P), the parts of a token in row-major order.
        grid: grid of the tokens, d numbers.
        factor: parts along each dimension.

    Returns:
        (B, prod(grid) * factor^d, P) in row-major order of the finer grid.
    """
    dims = len(grid)
    parts = tokens.unflatten(2, (*[factor] * dims, -1)).unflatten(1, tuple(grid))  # (B, *grid, *factors, P)
    interleaved = [axis for dim in range(dims) for axis in (1 + dim, 1 + dims + dim)]
    return parts.permute(0, *interleaved, 1 + 2 * dims).flatten(1, 2 * dims)
