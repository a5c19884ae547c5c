from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional

from miram.networks.decoders.scale_decoder import ScaleDecoder, SubPixelDecoder, split_tokens
from miram.networks.patches import unpatchify
from miram.networks.vit_encoder import ViTEncoder

KINDS = {
    "exact": {},
    "nystromformer": {"num_landmarks": 4},
    "linformer": {"proj_size": 4},
    "performer": {},
    "windowed": {"window_size": 2},
}
KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])


def decoder(encoder, scale, **arguments):
    return ScaleDecoder(encoder, scale, hidden_size=24, num_layers=1, num_heads=2, **arguments)


@pytest.mark.parametrize(("scale", "kind"), list(itertools.product([0.5, 1, 2, 4], KINDS)))
def test_predicts_every_patch_of_its_own_grid(tiny_encoder, scale, kind):
    network = decoder(tiny_encoder, scale, attention=kind, attention_kwargs=KINDS[kind])
    prediction, mask, _ = network(torch.randn(2, 5, 24), KEEP)
    tokens = int(16 * scale**2)
    assert prediction.shape == (2, tokens, 64)
    assert mask.shape == (2, tokens)
    assert prediction.isfinite().all()


@pytest.mark.parametrize("scale", [1, 2])
def test_3d_with_and_without_class_token(scale):
    encoder = ViTEncoder(1, 16, 8, 24, 48, 1, 2, spatial_dims=3, class_token=False)
    prediction, mask, _ = decoder(encoder, scale)(torch.randn(1, 3, 24), torch.tensor([[0, 3, 7]]))
    assert prediction.shape == (1, 8 * scale**3, 512)
    assert mask.sum() == 5 * scale**3


def test_visible_tokens_are_decoded_at_their_own_places(tiny_encoder):
    """With positions and blocks out of the way, a token's prediction depends on what lies at its place alone."""
    network = decoder(tiny_encoder, 1)
    network.blocks = torch.nn.ModuleList()
    network.position_embeddings.zero_()
    latent = torch.randn(2, 5, 24)
    prediction = network(latent, KEEP).prediction
    own = network.head(network.norm(network.embedding(latent[:, 1:])))
    torch.testing.assert_close(prediction.gather(1, KEEP[..., None].expand(-1, -1, 64)), own)
    hidden = network.head(network.norm(network.mask_token))[0, 0]
    torch.testing.assert_close(prediction[0, 1], hidden)


def test_every_parameter_gets_a_gradient(tiny_encoder):
    for kind, arguments in KINDS.items():
        network = decoder(tiny_encoder, 2, attention=kind, attention_kwargs=arguments)
        network(torch.randn(2, 5, 24), KEEP)[0].square().mean().backward()
        idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, (kind, idle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.3}, "not give a whole grid"),
        ({"scale": 1, "hidden_size": 18}, "sincos"),
        ({"scale": 1, "num_heads": 5}, "divisible"),
    ],
)
def test_bad_arguments_are_refused(tiny_encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        ScaleDecoder(tiny_encoder, **{"hidden_size": 24, "num_layers": 1, "num_heads": 2, **arguments})


def test_the_cost_of_a_scale_lies_in_its_grid(tiny_encoder):
    assert math.prod(decoder(tiny_encoder, 2).grid) == 4 * math.prod(decoder(tiny_encoder, 1).grid)


def test_activation_checkpointing_follows_the_encoder_and_changes_no_gradient(tiny_encoder):
    tiny_encoder.activation_checkpointing = True
    saving, plain = decoder(tiny_encoder, 2), decoder(tiny_encoder, 2, activation_checkpointing=False)
    assert (saving.activation_checkpointing, plain.activation_checkpointing) == (True, False)
    plain.load_state_dict(saving.state_dict())
    latent = torch.randn(2, 5, 24)
    for network in (saving, plain):
        network(latent, KEEP)[0].square().sum().backward()
    torch.testing.assert_close(saving.embedding.weight.grad, plain.embedding.weight.grad, atol=1e-5, rtol=1e-5)


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
