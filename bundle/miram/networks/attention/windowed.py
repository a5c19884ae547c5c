"""Attention within groups of a grid's tokens: half of the heads locally, half across the whole grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from miram.networks.attention.base import SelfAttention, check_positive


class WindowedAttention(SelfAttention):
    """
    Exact attention in groups of `window_size` tokens along each dimension: linear in the number of tokens.

    The first half of the heads attends within windows. The other half attends within tokens that are a fixed stride
    apart, one from each part of the grid. These are the block and grid attention of MaxViT (Tu et al., arXiv
    2204.01697) side by side instead of one after the other, so that one layer sees both detail and the whole image.
    Tokens before those of the grid, such as a class token, join every group; their outputs are averaged over groups.

    Args:
        num_heads: number of heads, at least 2; `hidden_size` is a multiple of it.
        grid: tokens along each dimension.
        window_size: tokens of a group along each dimension.

    Raises:
        ValueError: if a size is not positive, there is no grid, it has more tokens than the sequence, or it is not a
            multiple of the window.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        qkv_bias: bool = True,
        grid: Sequence[int] | None = None,
        window_size: int = 7,
    ) -> None:
        super().__init__(hidden_size, num_heads, seq_len, qkv_bias)
        check_positive(window_size=window_size)
        if grid is None or math.prod(grid) > seq_len:
            raise ValueError(f"windowed attention needs the grid of its tokens, got {grid} for {seq_len} tokens.")
        if num_heads < 2:
            raise ValueError("windowed attention needs at least 2 heads: one within windows, one across them.")
        if any(size % window_size for size in grid):
            fitting = [size for size in range(2, min(grid) + 1) if math.gcd(*grid) % size == 0]
            raise ValueError(
                f"window_size {window_size} does not divide the grid {tuple(grid)}; it can be one of {fitting}."
            )
        self.grid = tuple(grid)
        self.window_size = window_size
        self.num_prefix_tokens = seq_len - math.prod(grid)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend within the groups; see :meth:`SelfAttention.attend`."""
        local = query.shape[1] // 2
        return torch.cat(
            (
                self._attend(query[:, :local], key[:, :local], value[:, :local], strided=False),
                self._attend(query[:, local:], key[:, local:], value[:, local:], strided=True),
            ),
            dim=1,
        )

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, strided: bool) -> torch.Tensor:
        groups = [self._group(tensor, strided) for tensor in (query, key, value)]
        # the fused kernel has one batch and one head dimension: groups are treated as heads
        queries, keys, values = (group.flatten(1, 2) for group in groups)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self._ungroup(attended.unflatten(1, groups[0].shape[1:3]), strided)

    def _group(self, tokens: torch.Tensor, strided: bool) -> torch.Tensor:
        """Sort tokens (B, h, N, d) into groups of T, each after the prefix: (B, h, groups, prefix + T, d)."""
        prefix, tokens = tokens.split((self.num_prefix_tokens, math.prod(self.grid)), dim=2)
        tokens = tokens.unflatten(2, self._split_grid(strided)).permute(self._order(strided))
        tokens = tokens.flatten(2, 1 + len(self.grid)).flatten(3, -2)  # (B, h, groups, T, d)
        return torch.cat((prefix[:, :, None].expand(-1, -1, tokens.shape[2], -1, -1), tokens), dim=3)

    def _ungroup(self, groups: torch.Tensor, strided: bool) -> torch.Tensor:
        """Undo :meth:`_group`; the prefix is the mean over the groups."""
        prefix, tokens = groups.split((self.num_prefix_tokens, groups.shape[3] - self.num_prefix_tokens), dim=3)
        order = self._order(strided)
        sizes = [self._split_grid(strided)[axis - 2] for axis in order[2:-1]]
        tokens = tokens.flatten(2, 3).unflatten(2, sizes)
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return torch.cat((prefix.mean(dim=2), tokens.permute(inverse).flatten(2, -2)), dim=2)

    def _split_grid(self, strided: bool) -> list[int]:
        """Split each dimension of the grid in two: window and place in it, or, if strided, the other way round."""
        pairs = [(size // self.window_size, self.window_size) for size in self.grid]
        return [part for pair in pairs for part in (reversed(pair) if strided else pair)]

    def _order(self, strided: bool) -> list[int]:
        """The order of axes (B, h, *split grid, d) that puts the axes of groups before those within a group."""
        within = [2 + 2 * dim + (0 if strided else 1) for dim in range(len(self.grid))]
        number = [2 + 2 * dim + (1 if strided else 0) for dim in range(len(self.grid))]
        return [0, 1, *number, *within, 2 + 2 * len(self.grid)]
