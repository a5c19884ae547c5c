"""What each control lacks, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import default_collate

from miram.engines.measuring import measure_textures
from miram.losses.reconstruction import MultiScaleReconstructionLoss, downsample
from miram.masking import RandomMasking
from miram.networks.patches import patchify, unpatchify
from miram.networks.vit_encoder import ViTEncoder
from studies.benchmark.controls import PrepareWithoutDetail, QuarterLoss, all_at_1x

DECODERS = [{"scale": scale, "hidden_size": 16, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]


@pytest.fixture
def encoder() -> ViTEncoder:
    return ViTEncoder(1, (16, 16), (4, 4), hidden_size=24, mlp_dim=48, num_layers=1, num_heads=2)


@pytest.mark.parametrize("dims", [2, 3])
def test_quarters_are_normalised_like_the_patches_of_twice_the_scale(dims):
    """A quarter of a patch of 8 at 1x is a patch of 4: each has its own mean and deviation."""
    image = torch.randn(2, 1, *[16] * dims) * 3 + 1
    quarter = QuarterLoss([16] * dims, [8] * dims, [1])
    plain = MultiScaleReconstructionLoss([16] * dims, [4] * dims, [1])
    (got,), (expected,) = quarter.targets(image), plain.targets(image)
    got = unpatchify(got, [8] * dims, [2] * dims)
    expected = unpatchify(expected, [4] * dims, [4] * dims)
    torch.testing.assert_close(got, expected)
    assert patchify(got, [8] * dims).shape[-1] == 8**dims


@pytest.mark.parametrize("dims", [2, 3])
def test_enlarged_targets_keep_the_coarse_image_and_lose_what_is_finer(dims):
    prepare = PrepareWithoutDetail(RandomMasking(0.75), (16,) * dims, 4**dims)
    checkers = sum(torch.meshgrid(*[torch.arange(32)] * dims, indexing="ij")) % 2 * 2.0 - 1
    ramp = torch.linspace(-1, 1, 32).expand(*[32] * dims)
    batch = {"label": torch.stack([checkers, ramp])[:, None], "index": torch.arange(2), "epoch": torch.ones(2)}
    image, label, (keep,), _ = prepare(batch)
    assert label.shape == batch["label"].shape
    assert keep.shape == (2, 4**dims // 4)
    assert label[0].abs().max() < 1e-6  # detail of one pixel is gone
    inner = (1, 0, *[slice(4, -4)] * dims)  # enlarging bends a ramp at its ends
    step = 2 / 31  # of the ramp, from pixel to pixel; torch's cubic (a = -0.75) keeps a ramp to a tenth of it
    torch.testing.assert_close(label[inner], batch["label"][inner], atol=step / 10, rtol=0)
    torch.testing.assert_close(image, downsample(batch["label"], (16,) * dims))


def test_texture_is_measured_on_what_it_is_compared_with():
    prepare = PrepareWithoutDetail(RandomMasking(0.75), (16, 16), 16)
    samples = [{"label": torch.randn(1, 32, 32), "index": n, "epoch": 0} for n in range(20)]
    loss = MultiScaleReconstructionLoss((16, 16), (4, 4), [1, 2], texture_weight=1.0)
    measure_textures(loss, samples, prepare)
    labels = prepare(default_collate(samples))[1]
    found = loss.textures[1](labels)
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), atol=1e-3, rtol=0)


def test_decoders_may_share_a_scale(encoder):
    network = all_at_1x(encoder, DECODERS)
    assert network.scales == [1, 1]
    assert DECODERS[1]["scale"] == 2
    output = network(torch.randn(1, 1, 16, 16), torch.arange(4)[None])
    assert [prediction.shape[1] for prediction in output["predictions"]] == [16, 16]
