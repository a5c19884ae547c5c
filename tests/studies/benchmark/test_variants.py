"""The forms that are compared, by name."""

from __future__ import annotations

import math

import pytest
import torch

from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.variants import decoder_size, make_variants


@pytest.fixture(scope="module")
def vit_b() -> ViTEncoder:
    return ViTEncoder(1, 224, 16)


def test_decoders_are_in_proportion_to_the_encoder(vit_b):
    assert decoder_size(vit_b, 2 / 3) == {"hidden_size": 512, "num_layers": 8, "num_heads": 16}
    assert decoder_size(vit_b, 1 / 3) == {"hidden_size": 256, "num_layers": 4, "num_heads": 8}
    tiny = ViTEncoder(1, 32, 8, 24, 48, 2, 2)
    assert decoder_size(tiny, 1 / 3) == {"hidden_size": 32, "num_layers": 1, "num_heads": 1}


@pytest.mark.parametrize("dims", [2, 3])
def test_every_form_reconstructs_each_of_its_scales(dims):
    encoder = ViTEncoder(1, 16, 4, 192, 96, 2, 4, spatial_dims=dims)
    keep = torch.arange(4**dims // 4)[None]
    for name, decoders in make_variants(encoder).items():
        if dims == 3 and name == "three_scales":
            continue  # 4,096 patches: the same code, and slow
        network = MIRAM(encoder, decoders).eval()  # in training a part may do
        output = network(torch.randn(1, 1, *[16] * dims), keep)
        counts = [prediction.shape[1] for prediction in output["predictions"]]
        assert counts == [int(4 * scale) ** dims for scale in network.scales], name
        assert all(mask.any() for mask in output["masks"])


def test_windows_divide_the_grid():
    variants = make_variants(ViTEncoder(1, 96, 8, 96, 192, 3, 3))
    assert math.gcd(12, variants["windowed"][1]["attention_kwargs"]["window_size"]) == 6
