"""The forms of MIRAM that are compared with each other, by name."""

from __future__ import annotations

from typing import Any

from miram.networks.vit_encoder import ViTEncoder

_HEAD_SIZE = 32  # MAE's decoder has 16 heads of 32


def decoder_size(encoder: ViTEncoder, share: float, depth: float | None = None) -> dict[str, int]:
    """
    Width, depth and heads of a decoder in proportion to its encoder: two thirds give MAE's 512 x 8 for ViT-B.

    Args:
        share: share of its width.
        depth: share of its blocks; by default the same as `share`.
    """
    unit = 1 if encoder.spatial_dims == 2 else 3  # positions in 3D need a width divisible by 6
    heads = unit * max(1, round(share * encoder.hidden_size / _HEAD_SIZE / unit))
    layers = max(1, round((share if depth is None else depth) * len(encoder.blocks)))
    return {"hidden_size": _HEAD_SIZE * heads, "num_layers": layers, "num_heads": heads}


def make_variants(encoder: ViTEncoder) -> dict[str, list[dict[str, Any]]]:
    """The decoders of all forms, in proportion to the encoder: 512 x 8 and 256 x 4 for ViT-B."""
    large, small, shallow = (decoder_size(encoder, *sizes) for sizes in ((2 / 3,), (1 / 3,), (1 / 3, 1 / 6)))
    one = {"scale": 1, **small}
    sampled = {"kind": "cross_attention", **small, "decode_ratio": 0.25}
    windows = {"attention": "windowed", "attention_kwargs": {"window_size": window_size(encoder)}}
    return {
        "mae": [{"scale": 1, **large}],
        "mae_narrow": [one],
        "paper": [{"scale": 1, **large}, {"scale": 2, **large, "attention": "nystromformer"}],
        "full": [one, {"scale": 2, **small}],
        "shallow": [one, {"scale": 2, **shallow}],
        "windowed": [one, {"scale": 2, **small, **windows}],
        "cross_attention": [one, {"scale": 2, **sampled}],  # that of configs/pretrain.yaml
        "cross_attention_both": [{"scale": 1, **sampled, "decode_ratio": 1.0}, {"scale": 2, **sampled}],
        "sub_pixel": [one, {"scale": 2, **small, "kind": "sub_pixel"}],
        "three_scales": [one, {"scale": 2, **sampled}, {"scale": 4, **sampled, "decode_ratio": 0.0625}],
    }


def window_size(encoder: ViTEncoder) -> int:
    """The largest window up to 7 that divides the encoder's grid, and therefore the grid of every integer scale."""
    return max(size for size in range(1, 8) if all(n % size == 0 for n in encoder.grid))
