"""A sample of the hidden patches is decoded, which follows from the visible ones alone."""

from __future__ import annotations

import copy

import pytest
import torch

from miram.masking import RandomMasking
from miram.networks.decoders.cross_attention_decoder import CrossAttentionDecoder, pick
from miram.networks.vit_encoder import ViTEncoder

KEEP = torch.tensor([[0, 5, 9, 15], [1, 2, 3, 4]])


def decoder(encoder, scale=2, **arguments):
    return CrossAttentionDecoder(encoder, scale, **{"hidden_size": 24, "num_layers": 2, "num_heads": 2, **arguments})


def decoded_places(network, latent, keep):
    """(B, N_s) bool: which patches of the grid a training step decodes."""
    places = network(latent, keep).places
    return torch.zeros_like(network.hidden(keep)).scatter(1, places, True)


@pytest.mark.parametrize(("scale", "ratio"), [(1, 0.5), (2, 1 / 3), (2, 1), (4, 0.1)])
def test_a_training_step_decodes_that_share_of_the_hidden_patches(tiny_encoder, scale, ratio):
    network = decoder(tiny_encoder, scale, decode_ratio=ratio)
    prediction, mask, places = network(torch.randn(2, 5, 24), KEEP)
    count = round(ratio * 12 * scale**2)
    assert prediction.shape == (2, count, 64)
    assert mask.all()
    assert all(len(set(row)) == count for row in places.tolist())
    assert network.hidden(KEEP).gather(1, places).all()


def test_evaluation_decodes_every_patch(tiny_encoder):
    network = decoder(tiny_encoder).eval()
    prediction, mask, places = network(torch.randn(2, 5, 24), KEEP)
    assert places is None
    assert prediction.shape == (2, 64, 64)
    assert torch.equal(mask, network.hidden(KEEP))


def test_a_prediction_does_not_depend_on_what_else_is_decoded(tiny_encoder):
    """So training and validation estimate the same loss."""
    network, latent = decoder(tiny_encoder), torch.randn(2, 5, 24)
    sampled, _, places = network(latent, KEEP)
    everything = network.eval()(latent, KEEP).prediction
    torch.testing.assert_close(sampled, everything.gather(1, places[..., None].expand_as(sampled)))


def test_the_sample_follows_from_the_visible_patches_and_the_scale(tiny_encoder):
    network, again, finer = decoder(tiny_encoder), decoder(tiny_encoder), decoder(tiny_encoder, 4)
    latent = torch.randn(2, 5, 24)
    sample = decoded_places(network, latent, KEEP)
    assert torch.equal(sample, decoded_places(again, latent, KEEP))
    assert torch.equal(sample, decoded_places(network, latent, KEEP.flip(1)))  # not from their order
    assert torch.equal(sample[1:], decoded_places(network, latent[1:], KEEP[1:]))  # nor from the rest of the batch
    assert not torch.equal(sample.repeat_interleave(4, 1), decoded_places(finer, latent, KEEP))
    other = KEEP.clone()
    other[0, 0] = 1
    assert not torch.equal(sample[0], decoded_places(network, latent, other)[0])


def test_over_many_masks_every_hidden_patch_is_decoded_as_often():
    network = decoder(ViTEncoder(1, 64, 8, 24, 48, 1, 2), decode_ratio=0.25)
    keep = RandomMasking(0.75)(epoch=0, index=torch.arange(4000), num_tokens=64)
    hidden = network.hidden(keep)
    decoded = torch.zeros_like(hidden).scatter(1, network.sample(keep, hidden), True)
    share = decoded.sum(0) / hidden.sum(0)
    # a patch is hidden in 3000 images: a deviation of sqrt(0.25 * 0.75 / 3000) = 0.008, and five of them
    assert (share - 0.25).abs().max() < 0.04


def test_a_scale_whose_hidden_patches_differ_in_number_counts_hidden_ones_only():
    encoder = ViTEncoder(1, 32, 8, 24, 48, 1, 2)
    network = decoder(encoder, 1.5, decode_ratio=1)
    _, mask, places = network(torch.randn(2, 5, 24), KEEP)
    hidden = network.hidden(KEEP)
    assert len(set(hidden.sum(1).tolist())) == 2
    assert torch.equal(mask, hidden.gather(1, places))
    assert mask.any(dim=1).all()
    assert not mask.all()


def test_visible_tokens_are_found_where_they_are(tiny_encoder):
    """A visible patch's position is the mean of its children's: the middle of them."""
    network = decoder(tiny_encoder)
    children = network.position_embeddings[0].view(4, 2, 4, 2, 24).mean(dim=(1, 3)).flatten(0, 1)
    torch.testing.assert_close(network.context_positions, children)


@pytest.mark.parametrize("class_token", [True, False])
def test_3d_with_and_without_class_token(class_token):
    encoder = ViTEncoder(1, 16, 8, 24, 48, 1, 2, spatial_dims=3, class_token=class_token)
    prediction, mask, _ = decoder(encoder)(torch.randn(1, 3 + class_token, 24), torch.tensor([[0, 3, 7]]))
    assert prediction.shape == (1, 5 * 8 // 4, 512)  # a quarter of the children of five hidden patches
    assert mask.all()


def test_activation_checkpointing_changes_no_gradient(tiny_encoder):
    saving, plain = (decoder(tiny_encoder, activation_checkpointing=on) for on in (True, False))
    plain.load_state_dict(saving.state_dict())
    latent = torch.randn(2, 5, 24)
    for network in (saving, plain):
        network(latent, KEEP)[0].square().sum().backward()
    torch.testing.assert_close(saving.embedding.weight.grad, plain.embedding.weight.grad, atol=1e-5, rtol=1e-5)


def test_the_state_is_that_of_the_weights_alone(tiny_encoder):
    network = decoder(tiny_encoder)
    assert {"patch_codes", "context_positions"}.isdisjoint(network.state_dict())
    assert copy.deepcopy(network).load_state_dict(network.state_dict(), strict=True)


def test_picking_equals_gathering():
    tokens, places = torch.randn(3, 10, 4), torch.randint(10, (3, 5))
    expected = tokens.gather(1, places[..., None].expand(-1, -1, 4))
    assert torch.equal(pick(tokens, places), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decode_ratio": 0}, "decode_ratio must be above 0"),
        ({"decode_ratio": 1.5}, "at most 1, got 1.5"),
        ({"num_heads": 5}, "divisible"),
        ({"hidden_size": 18}, "sincos"),
        ({"scale": 0.3}, "not give a whole grid"),
    ],
)
def test_bad_arguments_are_refused(tiny_encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        decoder(tiny_encoder, **arguments)
