"""Choose a kind of attention by its name in a config."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from miram.networks.attention.base import ExactAttention
from miram.networks.attention.linformer import LinformerAttention
from miram.networks.attention.nystrom import NystromAttention
from miram.networks.attention.performer import PerformerAttention
from miram.networks.attention.windowed import WindowedAttention

KINDS: dict[str, type[nn.Module]] = {
    "exact": ExactAttention,
    "nystromformer": NystromAttention,
    "linformer": LinformerAttention,
    "performer": PerformerAttention,
    "windowed": WindowedAttention,
}


def make_attention(
    kind: str,
    hidden_size: int,
    num_heads: int,
    seq_len: int,
    qkv_bias: bool = True,
    grid: Sequence[int] | None = None,
    **attention_kwargs: Any,
) -> nn.Module:
    """
    Make a self-attention module: (B, N, D) to (B, N, D).

    Args:
        kind: "exact", "nystromformer", "linformer", "performer" or "windowed".
        grid: the grid of the last tokens, for the kinds that need it.

    Returns:
        a module with weights `qkv` and `out_proj` as in :class:`monai.networks.blocks.SABlock`.

    Raises:
        ValueError: if the kind is unknown, does not have such an argument, or an argument is invalid.
    """
    if kind not in KINDS:
        raise ValueError(f"attention should be one of {', '.join(KINDS)}, got {kind!r}.")
    shared = inspect.signature(make_attention).parameters
    parameters = inspect.signature(KINDS[kind]).parameters
    own = [name for name in parameters if name not in shared]
    unknown = sorted(set(attention_kwargs) - set(own))
    if unknown:
        raise ValueError(
            f"attention {kind!r} has no argument {', '.join(unknown)}; it has: {', '.join(own) or 'none'}."
        )
    if "grid" in parameters:
        attention_kwargs["grid"] = grid
    return KINDS[kind](hidden_size, num_heads, seq_len, qkv_bias, **attention_kwargs)
