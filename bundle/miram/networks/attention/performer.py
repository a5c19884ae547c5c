"""Performer: softmax attention with positive random features."""

from __future__ import annotations

import math

import torch

from miram.networks.attention.base import SelfAttention, at_least_float32, check_positive


class PerformerAttention(SelfAttention):
    """
    FAVOR+ approximation of softmax attention, linear in the number of tokens.

    Based on: "Choromanski et al., Rethinking Attention with Performers <https://arxiv.org/abs/2009.14794>". By Lemma 1,
    exp(q . k) is the expectation of phi(q) . phi(k) with phi(x) = exp(w . x - |x|^2 / 2), w normal. Therefore

        softmax(Q K^T) V  is approximated by  phi(Q) (phi(K)^T V) / (phi(Q) (phi(K)^T 1)).

    The features are orthogonal in blocks (Section 2.4). They are drawn at construction, stay fixed, and are saved with
    the weights. The error falls as 1 / sqrt(num_features), and grows steeply with the norms of queries and keys.

    Args:
        num_features: number of random features; None for int(d log d), d the width of a head (the order of the
            paper's Theorem 4).
        seed: seed of the features; None to draw them like weights, from torch's own generator, so that every layer
            has different ones.
        eps: added to every feature of the keys, so that no quotient is 0 / 0 (the authors' stabiliser; they also add
            it to the features of the queries, which are never all 0 after the maximum is subtracted).

    Raises:
        ValueError: if a size is not positive, or `eps` is negative.
    """

    features: torch.Tensor

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        seq_len: int,
        qkv_bias: bool = True,
        num_features: int | None = None,
        seed: int | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(hidden_size, num_heads, seq_len, qkv_bias)
        head_size = hidden_size // num_heads
        if num_features is None:
            num_features = max(1, int(head_size * math.log(head_size)))
        check_positive(num_features=num_features)
        if eps < 0:
            raise ValueError(f"eps should not be negative, got {eps}.")
        self.eps = eps
        self.register_buffer("features", torch.empty(num_features, head_size))
        self.redraw(seed)

    @torch.no_grad()
    def redraw(self, seed: int | None = None) -> None:
        """Draw new features in place, as the paper allows during training; `seed` as in the constructor."""
        num_features, head_size = self.features.shape
        self.features.copy_(orthogonal_gaussian(num_features, head_size, seed))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend through the features; see :meth:`SelfAttention.attend`."""
        # In bf16, a rounding error of 0.4 % in an exponent of 10 would become an error of 4 % in a feature.
        with torch.autocast(query.device.type, enabled=False):
            # A constant per query, or for all keys of a head, cancels in the quotient: subtract the maximum.
            exponents = self._exponents(query)
            query_features = (exponents - exponents.detach().amax(dim=-1, keepdim=True)).exp()
            exponents = self._exponents(key)
            key_features = (exponents - exponents.detach().amax(dim=(-2, -1), keepdim=True)).exp()
            # `eps` is added to the sums over tokens, not to the (B, heads, N, M) features, to keep one tensor less.
            values = at_least_float32(value)
            context = key_features.transpose(-1, -2) @ values + self.eps * values.sum(dim=-2, keepdim=True)
            total = key_features.sum(dim=-2) + self.eps * key.shape[-2]  # (B, heads, M)
            return (query_features @ context / (query_features @ total.unsqueeze(-1))).to(value.dtype)

    def _exponents(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the logarithms of the positive features.

        Args:
            x: (B, heads, N, d) queries or keys.

        Returns:
            (B, heads, N, M): w . x - |x|^2 / 2 for x / d^(1/4), so that a product of two features has q . k / sqrt(d).
        """
        x = at_least_float32(x) * x.shape[-1] ** -0.25
        return x @ self.features.to(x.dtype).T - x.square().sum(dim=-1, keepdim=True) / 2


def orthogonal_gaussian(rows: int, columns: int, seed: int | None = None) -> torch.Tensor:
    """
    Draw Gaussian vectors that are orthogonal to each other within blocks (Choromanski et al., Section 2.4).

    Each vector alone is standard normal: it has a uniform direction and the length of another Gaussian vector.

    Args:
        columns: width of a vector, and number of vectors in a block.
        seed: seed of a separate generator; None for torch's own.

    Returns:
        (rows, columns), float32 on the CPU.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    directions = torch.empty(rows, columns, device="cpu")
    for block in directions.split(columns):
        torch.nn.init.orthogonal_(block, generator=generator)
    lengths = torch.randn(rows, columns, generator=generator, device="cpu").norm(dim=-1, keepdim=True)
    return directions * lengths
