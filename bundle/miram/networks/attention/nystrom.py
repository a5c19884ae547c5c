"""Nystromformer: attention through a few landmark tokens."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from miram.networks.attention.base import SelfAttention, at_least_float32, check_positive


class NystromAttention(SelfAttention):
    """
    Nystrom approximation of softmax attention, linear in the number of tokens.

    Based on: "Xiong et al., Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention
    <https://arxiv.org/abs/2102.03902>", Algorithm 1: with landmarks Q~, K~ (means of segments of the tokens),

        softmax(Q K^T) V  is approximated by  softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~ K^T) V,

    plus a depthwise convolution of the values over the tokens (the paper's skip connection). The outer two factors
    are computed from right to left by the fused kernel, so that no matrix with N columns is kept.

    Args:
        num_landmarks: number of segments, at most `seq_len`; if N is not a multiple of it, segment lengths differ by
            one (the paper pads instead, so that padding enters the last means).
        pinv_iterations: iterations of the pseudo-inverse; the paper uses 6.
        conv_kernel_size: odd length, in tokens, of the convolution of the values; None for no convolution.

    Raises:
        ValueError: if a size is not positive, `num_landmarks` exceeds `seq_len`, or `conv_kernel_size` is even.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        qkv_bias: bool = True,
        num_landmarks: int = 64,
        pinv_iterations: int = 6,
        conv_kernel_size: int | None = 33,
    ) -> None:
        super().__init__(hidden_size, num_heads, seq_len, qkv_bias)
        check_positive(num_landmarks=num_landmarks, pinv_iterations=pinv_iterations)
        if num_landmarks > seq_len:
            raise ValueError(f"num_landmarks should be at most seq_len, got {num_landmarks} and {seq_len}.")
        self.num_landmarks = num_landmarks
        self.pinv_iterations = pinv_iterations
        self.conv = None if conv_kernel_size is None else _token_convolution(num_heads, conv_kernel_size)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend through the landmarks; see :meth:`SelfAttention.attend`."""
        query_landmarks = segment_means(query, self.num_landmarks)
        key_landmarks = segment_means(key, self.num_landmarks)
        summary = functional.scaled_dot_product_attention(query_landmarks, key, value)  # (B, heads, M, d)
        with torch.autocast(query.device.type, enabled=False):
            inverse = self._landmark_inverse(query_landmarks, key_landmarks)
            summary = (inverse @ at_least_float32(summary)).to(value.dtype)
        attended = functional.scaled_dot_product_attention(query, key_landmarks, summary)
        return attended if self.conv is None else attended + self.conv(value)

    def _landmark_inverse(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Pseudo-inverse of the landmarks' attention matrix, (B, heads, M, M), from two (B, heads, M, d)."""
        # The iterations cancel large terms: in bf16 this would multiply the error of the whole attention.
        query, key = at_least_float32(query), at_least_float32(key)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return iterative_pinv(scores.softmax(dim=-1), self.pinv_iterations)


def segment_means(tokens: torch.Tensor, segments: int) -> torch.Tensor:
    """
    Average consecutive tokens: the landmarks of the Nystromformer.

    Args:
        segments: number of segments M, of N // M tokens each; the first N % M segments have one more.

    Returns:
        (..., M, d).

    Raises:
        ValueError: if there are fewer tokens than segments.
    """
    length, longer = tokens.shape[-2] // segments, tokens.shape[-2] % segments
    if length == 0:
        raise ValueError(f"{tokens.shape[-2]} tokens are fewer than num_landmarks={segments}.")
    if longer == 0:
        return tokens.unflatten(-2, (segments, length)).mean(dim=-2)
    boundary = longer * (length + 1)
    long = tokens[..., :boundary, :].unflatten(-2, (longer, length + 1)).mean(dim=-2)
    short = tokens[..., boundary:, :].unflatten(-2, (segments - longer, length)).mean(dim=-2)
    return torch.cat([long, short], dim=-2)


def iterative_pinv(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    """
    Moore-Penrose inverse by matrix products only (Xiong et al., Lemma 1).

    Z_0 = A^T / (|A|_1 |A|_inf), Z_{j+1} = Z_j (13 I - A Z_j (15 I - A Z_j (7 I - A Z_j))) / 4. The norms are those of
    each matrix: the released code takes one maximum over the batch, which would make a sample's output depend on its
    neighbours. A singular value s converges in about log(|A|_1 |A|_inf / s^2) / log(13 / 4) iterations; smaller ones
    are damped, not inverted.

    Args:
        matrix: (..., M, M).

    Returns:
        (..., M, M).
    """
    magnitude = matrix.abs()
    column_norm = magnitude.sum(dim=-2, keepdim=True).amax(dim=-1, keepdim=True)  # |A|_1
    row_norm = magnitude.sum(dim=-1, keepdim=True).amax(dim=-2, keepdim=True)  # |A|_inf
    inverse = matrix.transpose(-1, -2) / (column_norm * row_norm)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        product = matrix @ inverse
        inverse = 0.25 * inverse @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product)))
    return inverse


def _token_convolution(num_heads: int, kernel_size: int) -> nn.Conv2d:
    """Make a convolution of (B, heads, N, d) over the tokens, with one kernel per head, that keeps the shape."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"conv_kernel_size should be a positive odd number or None, got {kernel_size}.")
    padding = (kernel_size // 2, 0)
    return nn.Conv2d(num_heads, num_heads, (kernel_size, 1), padding=padding, groups=num_heads, bias=False)
