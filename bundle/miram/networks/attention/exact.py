"""Exact attention with the fused kernel: MONAI's own block."""

from __future__ import annotations

import torch
from monai.networks.blocks import SABlock
from torch import nn

from miram.networks.attention.base import check_sizes


class UnbindHeads(nn.Module):
    """
    Queries, keys and values as a tuple: with it `SABlock` computes the same, with less work in the backward pass.

    `SABlock` indexes one tensor three times. Each index then has a gradient of the whole tensor's size, zeros but for
    its third, and the three are added.

    Args:
        num_heads: number of heads.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (B, N, 3 D) to three of (B, heads, N, d)."""
        return x.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class ExactAttention(SABlock):
    """
    MONAI's `SABlock` with the fused kernel, and with the arguments of the other kinds.

    The dropout rate stays 0: `SABlock` would also apply it in evaluation.

    Args:
        hidden_size: width D of a token.
        num_heads: number of heads; `hidden_size` is a multiple of it.
        seq_len: number of tokens N; only checked, since exact attention works for any number.
        qkv_bias: whether the query, key and value projections have a bias.

    Raises:
        ValueError: if a size is not positive, or `hidden_size` is not a multiple of `num_heads`.
    """

    def __init__(self, hidden_size: int, num_heads: int, seq_len: int, qkv_bias: bool = True) -> None:
        check_sizes(hidden_size, num_heads, seq_len)
        super().__init__(hidden_size, num_heads, qkv_bias=qkv_bias, use_flash_attention=True)
        self.input_rearrange = UnbindHeads(num_heads)
