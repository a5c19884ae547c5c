from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from miram.networks.attention import PerformerAttention
from miram.networks.attention.performer import orthogonal_gaussian

HEAD_SIZE = 16


def random_heads(scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(1, 2, 30, HEAD_SIZE, generator=generator, dtype=torch.float64)  # noqa: E731
    return scale * draw(), scale * draw(), draw()


def make(num_features: int | None = None, seed: int | None = 0, eps: float = 1e-6) -> PerformerAttention:
    return PerformerAttention(2 * HEAD_SIZE, 2, 30, num_features=num_features, seed=seed, eps=eps).double()


def test_error_falls_with_the_square_root_of_the_features() -> None:
    """
    On queries and keys of small norm: the deviation of an estimate grows as exp(|q + k|^2 / 2), and hides the rate.

    The slope of log error over log features is -1/2; 0.05 is three deviations of it, measured over sets of 8 seeds.
    """
    query, key, value = random_heads(scale=0.25)
    exact = scaled_dot_product_attention(query, key, value)
    sizes = (32, 128, 512, 2048)
    errors = [np.mean([float((make(m, s).attend(query, key, value) - exact).norm()) for s in range(8)]) for m in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.05
    assert errors[-1] < 0.05 * float(exact.norm())


def test_features_estimate_the_softmax_kernel_without_bias() -> None:
    """
    Lemma 1: the mean of exp(w . q - |q|^2 / 2) exp(w . k - |k|^2 / 2) is exp(q . k), here with q and k over d^(1/4).

    Lemma 2 gives its variance for independent features, exp(2 q . k) (exp(|q + k|^2) - 1) / m; orthogonal ones have
    less.
    """
    query, key, _ = random_heads(scale=0.25)
    query_features, key_features = (make(num_features=20_000)._exponents(x).exp() for x in (query, key))
    estimate = query_features @ key_features.transpose(-1, -2) / 20_000
    query, key = query / HEAD_SIZE**0.25, key / HEAD_SIZE**0.25
    expected = (query @ key.transpose(-1, -2)).exp()
    sum_of_squares = (query.unsqueeze(-2) + key.unsqueeze(-3)).square().sum(dim=-1)
    deviation = expected * ((sum_of_squares.exp() - 1) / 20_000).sqrt()
    scores = (estimate - expected) / deviation
    assert scores.abs().max() < 4  # of 1,800; norms are small, so that a mean of 20,000 is nearly normal
    assert 0.1 < scores.square().mean() < 1


def test_features_are_orthogonal_gaussian_vectors() -> None:
    """Blocks of 16 orthogonal vectors (the last one of 8); the vectors alone are standard normal."""
    vectors = orthogonal_gaussian(5 * 16 + 8, 16, seed=0)
    for block in vectors.split(16):
        gram = block @ block.T
        torch.testing.assert_close(gram, gram.diag().diag(), rtol=0, atol=1e-4)
    many = orthogonal_gaussian(16_000, 16, seed=0)
    # Four standard errors of 16,000 draws. An unsigned QR decomposition fails: its directions fill half the sphere.
    assert many.mean(dim=0).abs().max() < 4 / 16_000**0.5
    assert many.square().mean(dim=0).sub(1).abs().max() < 4 * (2 / 16_000) ** 0.5
    assert many.square().sum(dim=1).var() == pytest.approx(2 * 16, rel=0.05)  # chi squared, not a fixed length


def test_default_number_of_features() -> None:
    assert make().features.shape == (int(HEAD_SIZE * np.log(HEAD_SIZE)), HEAD_SIZE)


def test_seed_makes_the_features() -> None:
    assert torch.equal(make(seed=3).features, make(seed=3).features)
    assert not torch.equal(make(seed=3).features, make(seed=4).features)
    torch.manual_seed(0)
    first, second = make(seed=None), make(seed=None)
    assert not torch.equal(first.features, second.features)
    torch.manual_seed(0)
    assert torch.equal(make(seed=None).features, first.features)


def test_seed_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    orthogonal_gaussian(20, 8, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_redraw_changes_the_features_in_place() -> None:
    attention = make(seed=3)
    features = attention.features
    attention.redraw(seed=4)
    assert attention.features is features
    assert torch.equal(features, make(seed=4).features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_exponents_stay_finite(dtype: torch.dtype) -> None:
    """Norms at which the plain exponential overflows: the maximum is taken out first, `eps` keeps 0 / 0 away."""
    query, key, value = (x.to(dtype).requires_grad_() for x in random_heads(scale=60.0))
    attention = make().float()
    assert attention._exponents(query).exp().isinf().any() or attention._exponents(key).exp().eq(0).all(-1).any()
    attended = attention.attend(query, key, value)
    attended.float().sum().backward()
    assert all(x is not None and x.isfinite().all() for x in (attended, query.grad, key.grad, value.grad))
    assert attended.abs().max() <= value.abs().max() * (1 + 2**-8)  # a weighted mean, to the rounding of bf16


def test_autocast_rounds_only_the_result() -> None:
    """Exponents in bf16 would be wrong by some 0.02, and the features by 2 %."""
    inputs = [x.bfloat16() for x in random_heads(scale=3.0)]
    attention = make().float()
    expected = attention.attend(*(x.float() for x in inputs)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attention.attend(*inputs), expected, rtol=0, atol=0)


def test_maxima_cancel() -> None:
    """Without `eps` the stabilised quotient is the plain one."""
    query, key, value = random_heads(scale=1.0)
    attention = make(eps=0.0)
    query_features, key_features = (attention._exponents(x).exp() for x in (query, key))
    weights = query_features @ key_features.transpose(-1, -2)
    expected = weights / weights.sum(dim=-1, keepdim=True) @ value
    torch.testing.assert_close(attention.attend(query, key, value), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"num_features": 0}, "num_features should be at least 1"), ({"eps": -1.0}, "eps should not be negative")],
)
def test_arguments_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**wrong)
