"""Linformer: attention to learned mixtures of the tokens."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from miram.networks.attention.base import SelfAttention, check_positive


class LinformerAttention(SelfAttention):
    """
    Attention to k learned mixtures of the N tokens instead of to the tokens, linear in N.

    Based on: "Wang et al., Linformer: Self-Attention with Linear Complexity <https://arxiv.org/abs/2006.04768>",
    Eq. 7: softmax(Q (E K)^T / sqrt(d)) F V with learned k x N projections E, F. The projections are tied to token
    positions, so the number of tokens is fixed.

    Args:
        proj_size: number of mixtures k, at most `seq_len`.
        share_projections: how projections are shared (Section 4, "Parameter sharing between projections"): "none",
            every head has its own E and F; "headwise", all heads share E and F; "kv", they also share E = F.

    Raises:
        ValueError: if a size is not positive, `proj_size` exceeds `seq_len`, or `share_projections` is unknown.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        qkv_bias: bool = True,
        proj_size: int = 128,
        share_projections: str = "headwise",
    ) -> None:
        super().__init__(hidden_size, num_heads, seq_len, qkv_bias)
        check_positive(proj_size=proj_size)
        if proj_size > seq_len:
            raise ValueError(f"proj_size should be at most seq_len, got {proj_size} and {seq_len}.")
        if share_projections not in ("none", "headwise", "kv"):
            raise ValueError(f"share_projections should be 'none', 'headwise' or 'kv', got {share_projections!r}.")
        shape = (num_heads if share_projections == "none" else 1, proj_size, seq_len)
        self.key_projection = nn.Parameter(torch.empty(shape))  # E
        self.value_projection = None if share_projections == "kv" else nn.Parameter(torch.empty(shape))  # F
        self.reset_projections()

    def reset_projections(self) -> None:
        """Draw E and F as the authors' code does: Xavier uniform, gain 1 / sqrt(2)."""
        bound = math.sqrt(3 / sum(self.key_projection.shape[1:]))
        for projection in (self.key_projection, self.value_projection):
            if projection is not None:
                nn.init.uniform_(projection, -bound, bound)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """
        Attend to the mixtures; see :meth:`SelfAttention.attend`.

        Raises:
            ValueError: if the number of tokens is not `seq_len`.
        """
        if key.shape[-2] != self.seq_len:
            raise ValueError(f"Linformer attention was made for {self.seq_len} tokens, got {key.shape[-2]}.")
        value_projection = self.key_projection if self.value_projection is None else self.value_projection
        return functional.scaled_dot_product_attention(query, self.key_projection @ key, value_projection @ value)
