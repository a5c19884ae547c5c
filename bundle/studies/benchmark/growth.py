"""How the cost of an image grows with scales, image size and dimensions, in exact counts."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from studies.benchmark.step_cases import StepSettings, variant_cost
from studies.benchmark.variants import make_variants

IMAGE_SIZES = ((224, 224), (448, 448), (96, 96, 96))
FORMS = ("mae", "paper", "full", "cross_attention", "three_scales")


def count_growth(encoder: str, precision: str = "bfloat16") -> list[dict[str, Any]]:
    """
    Count forms with one, two and three scales, with patches of 16.

    Args:
        encoder: "tiny", "small" or "base".
        precision: "float32" or "bfloat16".

    Returns:
        rows with "image", "name", "scales", "flops", "saved_bytes", and the latter two relative to MAE on the smallest
        image.
    """
    rows: list[dict[str, Any]] = []
    for image_size, name in itertools.product(IMAGE_SIZES, FORMS):
        patch_size = [16] * len(image_size)
        settings = StepSettings(encoder, precision, 1, torch.device("cpu"), image_size, patch_size)
        variant = make_variants(settings.make_encoder())[name]
        cost = variant_cost(variant, settings)
        base = rows[0] if rows else {"flops": cost.flops, "saved_bytes": cost.saved_bytes}
        rows.append(
            {
                "image": " x ".join(map(str, image_size)),
                "name": name,
                "scales": ", ".join(f"{decoder['scale']:g}x" for decoder in variant.decoders),
                "flops": cost.flops,
                "saved_bytes": cost.saved_bytes,
                "flops_ratio": cost.flops / base["flops"],
                "saved_ratio": cost.saved_bytes / base["saved_bytes"],
            }
        )
    return rows
