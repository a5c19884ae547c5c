"""Exact self-attention, and what its approximations share: the projections before and after, as in MONAI's layer."""

from __future__ import annotations

import torch
from monai.networks.blocks import SABlock
from torch import nn


class UnbindHeads(nn.Module):
    """
    Queries, keys and values as a tuple: with it `SABlock` computes the same, with less work in the backward pass.

    `SABlock` indexes one tensor three times. Each index then has a gradient of the whole tensor's size, zeros but for
    its third, and the three are added.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (B, N, 3 D) to three of (B, heads, N, d)."""
        return x.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class SelfAttention(nn.Module):
    """
    Multi-head self-attention; a subclass implements :meth:`attend`.

    The weights `qkv` and `out_proj`, and the order of heads in them, are those of MONAI's `SABlock`, so weights of one
    kind load into another.

    Args:
        hidden_size: width D of a token.
        num_heads: number of heads; `hidden_size` is a multiple of it.
        seq_len: number of tokens N.

    Raises:
        ValueError: if a size is not positive, or `hidden_size` is not a multiple of `num_heads`.
    """

    def __init__(self, hidden_size: int, num_heads: int, seq_len: int, qkv_bias: bool = True) -> None:
        super().__init__()
        check_sizes(hidden_size, num_heads, seq_len)
        self.unbind_heads = UnbindHeads(num_heads)
        self.seq_len = seq_len
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Let every token of x (B, N, D) attend to all tokens: (B, N, D)."""
        query, key, value = self.unbind_heads(self.qkv(x))
        attended = self.attend(query, key, value)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """
        Approximate softmax(query key^T / sqrt(d)) value.

        Args:
            query: (B, heads, N, d).

        Returns:
            (B, heads, N, d), in the dtype of `value`.
        """
        raise NotImplementedError


def check_sizes(hidden_size: int, num_heads: int, seq_len: int) -> None:
    """
    Check the arguments that every kind of attention has.

    Raises:
        ValueError: if a size is not positive, or `hidden_size` is not a multiple of `num_heads`.
    """
    check_positive(hidden_size=hidden_size, num_heads=num_heads, seq_len=seq_len)
    if hidden_size % num_heads != 0:
        raise ValueError(f"hidden_size should be divisible by num_heads, got {hidden_size} and {num_heads}.")


def check_positive(**sizes: int) -> None:
    """Raise a ValueError that names the first size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} should be at least 1, got {size}.")


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Convert `tensor` to float32 if its dtype is narrower (bf16, fp16); other dtypes (float64) stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class ExactAttention(SABlock):
    """
    MONAI's `SABlock` with the fused kernel, and with the arguments of the other kinds.

    The dropout rate stays 0: `SABlock` would also apply it in evaluation.

    Args:
        seq_len: number of tokens N; only checked, since exact attention works for any number.

    Raises:
        ValueError: if a size is not positive, or `hidden_size` is not a multiple of `num_heads`.
    """

    def __init__(self, hidden_size: int, num_heads: int, seq_len: int, qkv_bias: bool = True) -> None:
        check_sizes(hidden_size, num_heads, seq_len)
        super().__init__(hidden_size, num_heads, qkv_bias=qkv_bias, use_flash_attention=True)
        self.input_rearrange = UnbindHeads(num_heads)
