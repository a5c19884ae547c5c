"""Texture of an image: what it tells apart, and what it does not change with."""

import pytest
import torch

from miram.errors import InputError
from miram.losses.reconstruction import MultiScaleReconstructionLoss
from miram.losses.texture import TextureDescriptors
from miram.networks.miram import MIRAM
from miram.networks.vit_encoder import ViTEncoder

SIZE = 32


def rays(count: int = 6) -> torch.Tensor:
    """Lines that radiate from the middle, (1, 1, 32, 32): their gradients run around it."""
    side = torch.arange(SIZE) + 0.5 - SIZE / 2
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.cos(count * torch.atan2(y, x))[None, None]


def circles() -> torch.Tensor:
    """Rings around the middle, (1, 1, 32, 32): their gradients point to it."""
    side = torch.arange(SIZE) + 0.5 - SIZE / 2
    return torch.cos(torch.hypot(*torch.meshgrid(side, side, indexing="ij")))[None, None]


def test_mirror_images_and_turns_have_the_same_texture():
    image = torch.randn(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    texture = TextureDescriptors((SIZE, SIZE))
    expected = texture(image)
    assert expected.shape == (2, texture.outputs)
    for other in (image.flip(3), image.flip(2), torch.rot90(image, 1, (2, 3))):
        # neighbours at the border come from the opposite side, and smoothing sums in another order
        torch.testing.assert_close(texture(other), expected, atol=2e-3, rtol=0)


def test_spicules_and_margins_differ_in_the_direction_of_their_gradients():
    texture = TextureDescriptors((SIZE, SIZE))
    twice = slice(10 + 10, 10 + 15)  # cosine of twice the angle to the outward direction, at the finest scale, by ring
    assert (texture(circles())[0, twice] > 0.5).all()
    assert (texture(rays())[0, twice] < -0.5).all()


def test_numbers_are_standardised_over_the_measured_images():
    images = torch.randn(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    texture = TextureDescriptors((SIZE, SIZE))
    texture.measure(images.split(5))
    torch.testing.assert_close(texture(images).mean(0), torch.zeros(texture.outputs), atol=1e-4, rtol=0)


def test_volumes_are_refused():
    with pytest.raises(InputError, match="set texture_weight to 0"):
        TextureDescriptors((8, 8, 8))


@pytest.mark.parametrize("class_token", [True, False])
def test_the_encoder_learns_to_predict_texture(class_token):
    torch.manual_seed(0)
    encoder = ViTEncoder(1, (16, 16), (8, 8), 12, 24, 1, 1, class_token=class_token)
    loss = MultiScaleReconstructionLoss((16, 16), (8, 8), [1, 2], texture_weight=2.0)
    decoders = [{"scale": scale, "hidden_size": 12, "num_layers": 1, "num_heads": 1} for scale in (1, 2)]
    network = MIRAM(encoder, decoders, texture_outputs=loss.texture_outputs)
    label = torch.randn(3, 1, SIZE, SIZE)
    loss.measure_textures(label.split(1))
    result = loss(network(label[..., ::2, ::2], torch.tensor([[0, 3]] * 3)), label)
    assert list(result) == ["loss", "loss_1x", "loss_2x", "loss_texture_1x", "loss_texture_2x"]
    parts = result["loss_1x"] + result["loss_2x"] + 2 * (result["loss_texture_1x"] + result["loss_texture_2x"])
    torch.testing.assert_close(result["loss"], parts)
    result["loss_texture_2x"].backward()
    assert encoder.patch_embedding.patch_embeddings.weight.grad.any()
