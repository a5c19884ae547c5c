from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from miram.networks.attention import ExactAttention, LinformerAttention

SHARING = ("none", "headwise", "kv")


def projections(attention: LinformerAttention) -> list[torch.nn.Parameter]:
    return [p for p in (attention.key_projection, attention.value_projection) if p is not None]


@pytest.mark.parametrize("share_projections", SHARING)
def test_identity_projections_give_exact_attention(share_projections: str) -> None:
    exact = ExactAttention(32, 4, 20)
    attention = LinformerAttention(32, 4, 20, proj_size=20, share_projections=share_projections)
    attention.load_state_dict(exact.state_dict(), strict=False)
    with torch.no_grad():
        for projection in projections(attention):
            projection.copy_(torch.eye(20).expand_as(projection))
    x = torch.randn(2, 20, 32)
    torch.testing.assert_close(attention(x), exact(x), rtol=0, atol=1e-6)


def test_heads_attend_to_their_own_mixtures() -> None:
    """Equation 7, head by head."""
    attention = LinformerAttention(32, 4, 20, proj_size=6, share_projections="none").double()
    key_projection, value_projection = projections(attention)
    query, key, value = (torch.randn(2, 4, 20, 8, dtype=torch.float64) for _ in range(3))
    expected = [
        scaled_dot_product_attention(
            query[:, head],
            key_projection[head] @ key[:, head],
            value_projection[head] @ value[:, head],
        )
        for head in range(4)
    ]
    torch.testing.assert_close(attention.attend(query, key, value), torch.stack(expected, dim=1))


@pytest.mark.parametrize(("share_projections", "count"), zip(SHARING, (2 * 4, 2, 1), strict=True))
def test_sharing_sets_the_number_of_parameters(share_projections: str, count: int) -> None:
    attention = LinformerAttention(32, 4, 20, proj_size=6, share_projections=share_projections)
    assert sum(p.numel() for p in projections(attention)) == count * 6 * 20


@pytest.mark.parametrize("share_projections", SHARING)
def test_projections_start_as_in_the_authors_code(share_projections: str) -> None:
    """Xavier uniform with gain 1 / sqrt(2) has the variance 1 / (N + k), each head for itself."""
    torch.manual_seed(0)
    attention = LinformerAttention(32, 4, 400, proj_size=100, share_projections=share_projections)
    for projection in projections(attention):
        torch.testing.assert_close(projection.var(), torch.tensor(1 / 500), rtol=0.03, atol=0)  # 40,000 draws: 0.5 %


def test_number_of_tokens_is_fixed() -> None:
    with pytest.raises(ValueError, match="made for 20 tokens, got 21"):
        LinformerAttention(32, 4, 20, proj_size=6)(torch.zeros(1, 21, 32))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"proj_size": 21}, "proj_size should be at most seq_len, got 21 and 20"),
        ({"proj_size": 0}, "proj_size should be at least 1"),
        ({"proj_size": 6, "share_projections": "layerwise"}, "'none', 'headwise' or 'kv', got 'layerwise'"),
    ],
)
def test_arguments_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinformerAttention(32, 4, 20, **wrong)
