"""Windowed attention against exact attention under the mask that it stands for."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from miram.networks.attention import WindowedAttention


def neighbours(grid: tuple[int, ...], window: int, strided: bool) -> torch.Tensor:
    """(N, N) bool: which tokens of a grid share a group, from their coordinates."""
    places = torch.tensor(list(itertools.product(*map(range, grid))))
    strides = torch.tensor(grid) // window
    group = places % strides if strided else places // window
    return (group[:, None] == group[None]).all(dim=-1)


@pytest.mark.parametrize(("grid", "window"), [((4, 6), 2), ((6, 6), 3), ((4, 2, 4), 2)])
def test_equals_exact_attention_among_the_tokens_of_a_group(grid, window):
    tokens = math.prod(grid)
    attention = WindowedAttention(16, 4, tokens, grid=grid, window_size=window)
    query, key, value = torch.randn(3, 2, 4, tokens, 4, dtype=torch.float64)
    got = attention.attend(query, key, value)
    for heads, strided in ((slice(0, 2), False), (slice(2, 4), True)):
        mask = neighbours(grid, window, strided)
        assert mask.sum(dim=1).tolist() == [window ** len(grid)] * tokens
        expected = scaled_dot_product_attention(query[:, heads], key[:, heads], value[:, heads], attn_mask=mask)
        torch.testing.assert_close(got[:, heads], expected, atol=1e-12, rtol=0)


def test_a_class_token_joins_every_group_and_gets_the_mean():
    attention = WindowedAttention(8, 2, 17, grid=(4, 4), window_size=2)
    query, key, value = torch.randn(3, 1, 2, 17, 4, dtype=torch.float64)
    got = attention.attend(query, key, value)
    window = [0, 1, 2, 5, 6]  # the class token, and the first window of 4 x 4 tokens behind it
    within = scaled_dot_product_attention(query[:, :1, window], key[:, :1, window], value[:, :1, window])
    torch.testing.assert_close(got[:, :1, 1], within[:, :, 1], atol=1e-12, rtol=0)
    groups = [[0, *(1 + (4 * (y + dy) + x + dx) for dy in (0, 1) for dx in (0, 1))] for y in (0, 2) for x in (0, 2)]
    means = [scaled_dot_product_attention(query[:, :1, g], key[:, :1, g], value[:, :1, g])[:, :, 0] for g in groups]
    torch.testing.assert_close(got[:, :1, 0], torch.stack(means).mean(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_size": 4}, r"does not divide the grid \(6, 6\); it can be one of \[2, 3, 6\]"),
        ({"grid": None}, "needs the grid"),
        ({"grid": (7, 6)}, "needs the grid"),
        ({"num_heads": 1}, "at least 2 heads"),
        ({"window_size": 0}, "window_size should be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowedAttention(**{"hidden_size": 8, "num_heads": 2, "seq_len": 37, "grid": (6, 6), **arguments})
