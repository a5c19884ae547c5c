"""A decoder that predicts only a sample of the hidden patches, by cross-attention to the latent."""

from __future__ import annotations

import math

import torch
from monai.networks.blocks import CrossAttentionBlock, MLPBlock
from torch import nn

from miram.counter_random import random_bits
from miram.networks.attention.base import check_sizes
from miram.networks.decoders.base import Decoded, Decoder, interpolate_tokens
from miram.networks.patches import pick
from miram.networks.vit_encoder import ViTEncoder

_NEVER = torch.iinfo(torch.int64).max


class CrossAttentionBlockWithMLP(nn.Module):
    """A pre-norm transformer block whose tokens attend to a context and not to each other."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        check_sizes(hidden_size, num_heads, 1)
        self.norm1 = nn.LayerNorm(hidden_size)
        self.attn = CrossAttentionBlock(hidden_size, num_heads, qkv_bias=True, use_flash_attention=True)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.mlp = MLPBlock(hidden_size, int(hidden_size * mlp_ratio))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, D) that attend to a context (B, M, D) to tokens (B, N, D)."""
        x = x + self.attn(self.norm1(x), context)
        return x + self.mlp(self.norm2(x))


class CrossAttentionDecoder(Decoder):
    """
    Decode a sample of the hidden patches, each independently: the cost of a finer grid falls with the share decoded.

    The queries are MIRAM's interpolated tokens at the sampled places of the scale's grid. They attend to the visible
    tokens and not to each other (CrossMAE, Fu et al., arXiv 2401.14391, who found that decoding a quarter of MAE's
    hidden patches trains as good an encoder). A patch's prediction therefore does not depend on which others are
    decoded. In evaluation all are, so the validation loss covers every hidden patch and is comparable with any other
    decoder's. The training loss is that of the sample.

    The sample depends only on the visible patches, which follow from (seed, epoch, sample): no generator is used.

    Args:
        decode_ratio: share of the hidden patches that a training step decodes. The other arguments are those of
            :class:`miram.networks.decoders.scale_decoder.ScaleDecoder`.

    Raises:
        ValueError: if the scale does not give a whole grid, the width does not fit heads or positions, or the share is
            not above 0 and at most 1.
    """

    patch_codes: torch.Tensor
    context_positions: torch.Tensor

    def __init__(
        self,
        encoder: ViTEncoder,
        scale: float = 2,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        decode_ratio: float = 0.25,
        activation_checkpointing: bool | None = None,
        extra_outputs: int = 0,
    ) -> None:
        if not 0 < decode_ratio <= 1:
            raise ValueError(f"decode_ratio must be above 0 and at most 1, got {decode_ratio}; 1 decodes every patch.")
        blocks = (CrossAttentionBlockWithMLP(hidden_size, num_heads, mlp_ratio) for _ in range(num_layers))
        super().__init__(
            encoder,
            scale,
            hidden_size,
            blocks,
            activation_checkpointing=activation_checkpointing,
            extra_outputs=extra_outputs,
        )
        self.decode_ratio = decode_ratio
        # a visible patch's position, interpolated on the scale's grid at the patch's centre
        context_positions = interpolate_tokens(self.position_embeddings.detach(), self.grid, self.encoder_grid)[0]
        self.register_buffer("context_positions", context_positions, persistent=False)
        codes = random_bits(0, 0, torch.arange(math.prod(self.encoder_grid)), 1)[:, 0]
        self.register_buffer("patch_codes", codes, persistent=False)

    def forward(self, latent: torch.Tensor, keep: torch.Tensor) -> Decoded:
        """Decode the visible tokens; see :meth:`Decoder.forward`. In training only the sample is predicted."""
        prefix, visible = self.embed(latent, keep)
        context = torch.cat((prefix, visible + self.context_positions[keep]), dim=1)
        tokens, hidden = self.lay_out(visible, keep), self.hidden(keep)
        if not self.training:
            return Decoded(self._predict(tokens, context), hidden)
        places = self.sample(keep, hidden)
        return Decoded(self._predict(pick(tokens, places), context), hidden.gather(1, places), places)

    def sample(self, keep: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """
        The patches that a training step decodes.

        Returns:
            (B, n) int64, indices of hidden patches, the same n in every image. If images differ in their number of
            hidden patches at this scale, an image with fewer than n also gets visible ones, which do not count in the
            loss.
        """
        share_hidden = 1 - keep.shape[1] / math.prod(self.encoder_grid)
        count = max(1, round(self.decode_ratio * share_hidden * hidden.shape[1]))
        # a sum does not depend on the order; the scale gives each decoder its own sample
        image_code = self.patch_codes[keep].sum(dim=1)
        order = random_bits(0, round(self.scale * 1000), image_code, hidden.shape[1])
        return order.masked_fill(~hidden, _NEVER).topk(count, dim=1, largest=False, sorted=False).indices

    def _predict(self, tokens: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.run_blocks(tokens, context)))
