"""A decoder that works on the encoder's grid and predicts finer patches from its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from miram.networks.decoders.base import Decoded, Decoder, prefix_tokens
from miram.networks.decoders.scale_decoder import DecoderBlock
from miram.networks.vit_encoder import ViTEncoder


class SubPixelDecoder(Decoder):
    """
    Predict fine patches from coarse tokens: a 2x reconstruction for little more than the cost of the 1x blocks.

    The blocks run on the encoder's grid. The last layer is wider and predicts, from each token, all patches of the
    finer grid inside the token's patch (in two dimensions the sub-pixel convolution of Shi et al., arXiv 1609.05158).
    So the scale has no token grid of its own, but its targets and loss are the same as for any other decoder.

    Args:
        encoder: the encoder whose tokens are decoded; only its sizes are read.
        scale: size of the reconstruction divided by the size of the encoder's image, a whole number.
        hidden_size: width of a decoder token.
        num_layers: transformer blocks.
        num_heads: attention heads.
        mlp_ratio: width of the feed-forward layers divided by `hidden_size`.
        attention: "exact", "nystromformer", "linformer", "performer" or "windowed".
        attention_kwargs: further arguments of that attention.
        activation_checkpointing: recompute the blocks in the backward pass to save memory; by default as the encoder
            does.
        extra_outputs: numbers that are predicted for each patch, behind its pixels.

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
