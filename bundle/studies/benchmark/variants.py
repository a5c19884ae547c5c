"""The forms of MIRAM that are compared with each other, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.controls import with_decoders

_HEAD_SIZE = 32  # MAE's decoder has 16 heads of 32


@dataclass(frozen=True)
class Variant:
    """
    One form of MIRAM.

    Args:
        decoders: arguments of the decoders; a scale may occur twice.
        targets: what the decoders learn to predict: "real" pixels, at scales above 1 an "enlarged" image without new
            detail, or real pixels normalised over each "quarter" of a patch.
        note: what the form is, or what it controls for.
    """

    decoders: Sequence[dict[str, Any]]
    targets: str = "real"
    note: str = ""

    def build(self, encoder: ViTEncoder) -> MIRAM:
        """The network of this form with an encoder."""
        return with_decoders(encoder, self.decoders)


def decoder_size(encoder: ViTEncoder, share: float, depth: float | None = None) -> dict[str, int]:
    """
    Width, depth and heads of a decoder in proportion to its encoder: two thirds give MAE's 512 x 8 for ViT-B.

    Args:
        encoder: the encoder.
        share: share of its width.
        depth: share of its blocks; by default the same as `share`.
    """
    unit = 1 if encoder.spatial_dims == 2 else 3  # positions in 3D need a width divisible by 6
    heads = unit * max(1, round(share * encoder.hidden_size / _HEAD_SIZE / unit))
    layers = max(1, round((share if depth is None else depth) * len(encoder.blocks)))
    return {"hidden_size": _HEAD_SIZE * heads, "num_layers": layers, "num_heads": heads}


def make_variants(encoder: ViTEncoder) -> dict[str, Variant]:
    """All forms, with decoders in proportion to the encoder: 512 x 8 and 256 x 4 for ViT-B."""
    large, small, shallow = (decoder_size(encoder, *sizes) for sizes in ((2 / 3,), (1 / 3,), (1 / 3, 1 / 6)))
    one = {"scale": 1, **small}
    sampled = {"kind": "cross_attention", **small, "decode_ratio": 0.25}
    windows = {"attention": "windowed", "attention_kwargs": {"window_size": window_size(encoder)}}
    return {
        "mae": Variant([{"scale": 1, **large}], note="MAE: one decoder with 2/3 of the encoder's size"),
        "mae_narrow": Variant([one], note="MAE with a decoder with 1/3 of the encoder's size"),
        "paper": Variant(
            [{"scale": 1, **large}, {"scale": 2, **large, "attention": "nystromformer"}],
            note="the paper's form: decoders with MAE's sizes, Nystromformer at 2x",
        ),
        "full": Variant([one, {"scale": 2, **small}], note="narrow decoders, self-attention over all tokens at 2x"),
        "shallow": Variant([one, {"scale": 2, **shallow}], note="the same with half the blocks at 2x"),
        "windowed": Variant([one, {"scale": 2, **small, **windows}], note="full, with windowed attention at 2x"),
        "cross_attention": Variant([one, {"scale": 2, **sampled}], note="a quarter of 2x by cross-attention"),
        "cross_attention_both": Variant(
            [{"scale": 1, **sampled, "decode_ratio": 1.0}, {"scale": 2, **sampled}],
            note="cross-attention also at 1x, there for every hidden patch",
        ),
        "sub_pixel": Variant(
            [one, {"scale": 2, **small, "kind": "sub_pixel"}], note="2x from a decoder on the 1x grid"
        ),
        "three_scales": Variant(
            [one, {"scale": 2, **sampled}, {"scale": 4, **sampled, "decode_ratio": 0.0625}],
            note="a quarter of 2x and a sixteenth of 4x by cross-attention",
        ),
        "control_enlarged": Variant(
            [one, {"scale": 2, **sampled}], "enlarged", "control: 2x is the 1x image enlarged, without new detail"
        ),
        "control_two_at_1x": Variant([one, {"scale": 1, **sampled}], note="control: a second decoder at 1x"),
        "control_quarters": Variant(
            [one], "quarter", "control: 1x only, targets normalised over quarters of a patch, as finely as at 2x"
        ),
    }


def window_size(encoder: ViTEncoder) -> int:
    """The largest window up to 7 that divides the encoder's grid, and therefore the grid of every integer scale."""
    return max(size for size in range(1, 8) if all(n % size == 0 for n in encoder.grid))
