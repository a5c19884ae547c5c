"""Fine patches from coarse tokens, each at its own place."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from miram.networks.decoders.sub_pixel_decoder import SubPixelDecoder, split_tokens
from miram.networks.patches import unpatchify
from miram.networks.vit_encoder import ViTEncoder

KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])


@pytest.mark.parametrize(("grid", "factor"), [((2, 3), 2), ((2, 1, 3), 2), ((3, 2), 4), ((2, 2), 1)])
def test_the_parts_of_a_token_lie_where_it_lies(grid, factor):
    numbers = torch.arange(math.prod(grid)).view(1, -1, 1).expand(-1, -1, factor ** len(grid))
    fine = split_tokens(numbers, grid, factor)
    expected = numbers[..., 0].view(1, 1, *grid).float()
    expected = functional.interpolate(expected, scale_factor=factor, mode="nearest").flatten().long()
    assert fine.shape == (1, math.prod(grid) * factor ** len(grid), 1)
    assert torch.equal(fine.flatten(), expected)


def test_the_parts_are_in_the_order_of_pixel_shuffle():
    """With one pixel a patch the finer grid is an image, and splitting is torch's own sub-pixel rearrangement."""
    tokens = torch.randn(2, 6, 4)
    image = unpatchify(split_tokens(tokens, (2, 3), 2), (1, 1), (4, 6))
    expected = functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (2, 3)), 2)
    assert torch.equal(image, expected)


@pytest.mark.parametrize(("scale", "dims"), [(1, 2), (2, 2), (4, 2), (2, 3)])
def test_predicts_every_patch_of_the_finer_grid(scale, dims):
    encoder = ViTEncoder(1, 16, 8, 24, 48, 1, 2, spatial_dims=dims)
    network = SubPixelDecoder(encoder, scale, hidden_size=24, num_layers=1, num_heads=2)
    keep = torch.tensor([[0, 3]])
    prediction, mask, _ = network(torch.randn(1, 3, 24), keep)
    assert prediction.shape == (1, (2 * scale) ** dims, 8**dims)
    assert mask.sum() == (2**dims - 2) * scale**dims
    assert len(network.position_embeddings[0]) == 2**dims  # its tokens stay on the encoder's grid


def test_at_scale_1_it_is_the_plain_decoder(tiny_encoder):
    from miram.networks.decoders.scale_decoder import ScaleDecoder

    arguments = {"scale": 1, "hidden_size": 24, "num_layers": 1, "num_heads": 2}
    sub_pixel, plain = SubPixelDecoder(tiny_encoder, **arguments), ScaleDecoder(tiny_encoder, **arguments)
    plain.load_state_dict(sub_pixel.state_dict())
    latent = torch.randn(2, 5, 24)
    torch.testing.assert_close(sub_pixel(latent, KEEP)[0], plain(latent, KEEP)[0], atol=0, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_a_scale_that_splits_no_token_is_refused(tiny_encoder, scale):
    with pytest.raises(ValueError, match="needs a whole scale"):
        SubPixelDecoder(tiny_encoder, scale)
