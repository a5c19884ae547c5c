import itertools
import math

import pytest
import torch

from miram.networks.decoders.scale_decoder import ScaleDecoder
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
