from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from miram.networks.attention import NystromAttention
from miram.networks.attention.nystrom import iterative_pinv, segment_means


def random_heads(count: int, tokens: int = 24, size: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, tokens, size, generator=generator, dtype=torch.float64) for _ in range(count)]


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def test_landmarks_at_every_token_give_exact_attention() -> None:
    """
    Then the three factors are S pinv(S) S = S, to the convergence of the pseudo-inverse.

    S is inverted in the directions whose singular values the iterations have reached; the others are weak in S itself,
    so that the paper's 6 iterations leave a small error and each further one takes some of it away. In float64, since
    the smallest singular values here are below the rounding of float32.
    """
    query, key, value = random_heads(3)
    exact = scaled_dot_product_attention(query, key, value)

    def error(iterations: int) -> float:
        attention = NystromAttention(
            24, 3, 24, num_landmarks=24, pinv_iterations=iterations, conv_kernel_size=None
        ).double()
        return relative_error(attention.attend(query, key, value), exact)

    assert error(6) < 0.05
    assert error(12) < error(9) < error(6)
    assert error(24) < 1e-8


@pytest.mark.parametrize("num_landmarks", [4, 5])
def test_tokens_that_are_equal_within_segments_give_exact_attention(num_landmarks: int) -> None:
    """The landmarks then lose nothing: softmax(Q K^T) has the rank of the landmarks' matrix."""
    landmarks = random_heads(2, tokens=num_landmarks)
    query, key = (x.repeat_interleave(6, dim=-2) for x in landmarks)
    value = random_heads(1, tokens=6 * num_landmarks)[0]
    attention = NystromAttention(24, 3, 6 * num_landmarks, True, num_landmarks, 24, None).double()
    torch.testing.assert_close(
        attention.attend(query, key, value), scaled_dot_product_attention(query, key, value), rtol=0, atol=1e-8
    )


def test_equals_the_implementation_in_transformers() -> None:
    """Batch and heads of one: it takes the norms of the pseudo-inverse's start over the whole batch."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = transformers.NystromformerConfig(
        hidden_size=16, num_attention_heads=1, num_landmarks=8, segment_means_seq_len=32, conv_kernel_size=5
    )
    theirs = NystromformerSelfAttention(config).double().eval()
    ours = NystromAttention(16, 1, 32, num_landmarks=8, conv_kernel_size=5).double()
    with torch.no_grad():
        for ours_part, linear in zip(ours.qkv.weight.split(16), (theirs.query, theirs.key, theirs.value), strict=True):
            ours_part.copy_(linear.weight)
        ours.qkv.bias.copy_(torch.cat([theirs.query.bias, theirs.key.bias, theirs.value.bias]))
        ours.out_proj.weight.copy_(torch.eye(16))
        ours.out_proj.bias.zero_()
        assert ours.conv is not None
        ours.conv.weight.copy_(theirs.conv.weight)
    x = torch.randn(1, 32, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=0, atol=1e-10)


def test_autocast_keeps_the_pseudo_inverse_in_float32() -> None:
    """
    On tokens that vary smoothly, whose landmarks' matrix is nearly singular.

    0.005 is five roundings of 2^-10 (root mean square): inputs of the two fused products, their results. With the
    iterations in bf16 the error is 0.016.
    """
    angles = torch.linspace(0, 1, 96).unsqueeze(-1) * torch.arange(1, 17) * 3
    heads = (2 * torch.cat([angles.sin(), angles.cos()], dim=-1)).expand(1, 2, 96, 32).bfloat16()
    attention = NystromAttention(64, 2, 96, num_landmarks=24, conv_kernel_size=None)
    expected = attention.attend(*[heads.double()] * 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(attention.attend(heads, heads, heads).double(), expected) < 0.005


@pytest.mark.parametrize(("tokens", "segments"), [(12, 4), (14, 4), (9, 8), (5, 5)])
def test_segment_means_cover_every_token_once(tokens: int, segments: int) -> None:
    x = random_heads(1, tokens=tokens)[0]
    expected = np.stack([part.mean(axis=-2) for part in np.array_split(x.numpy(), segments, axis=-2)], axis=-2)
    np.testing.assert_allclose(segment_means(x, segments).numpy(), expected, rtol=0, atol=1e-14)


def test_segment_means_need_a_token_a_segment() -> None:
    with pytest.raises(ValueError, match="3 tokens are fewer than num_landmarks=4"):
        segment_means(torch.zeros(3, 8), 4)


def test_pinv_is_the_moore_penrose_inverse() -> None:
    """Also for a singular matrix, which has no ordinary inverse."""
    x = random_heads(1, tokens=6)[0]
    regular = x[..., :6].softmax(dim=-1)
    singular = regular[..., [0, 0, 1, 2, 3, 4], :]
    for matrix in (regular, singular):
        torch.testing.assert_close(iterative_pinv(matrix, 30), torch.linalg.pinv(matrix, rtol=1e-8), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_landmarks": 25}, "num_landmarks should be at most seq_len, got 25 and 24"),
        ({"num_landmarks": 0}, "num_landmarks should be at least 1"),
        ({"num_landmarks": 8, "pinv_iterations": 0}, "pinv_iterations should be at least 1"),
        ({"num_landmarks": 8, "conv_kernel_size": 4}, "positive odd number or None, got 4"),
    ],
)
def test_arguments_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NystromAttention(24, 3, 24, **wrong)
