import pytest
import torch

from miram.engines.measuring import whiten_embedding
from miram.errors import InputError
from miram.losses.reconstruction import downsample
from miram.networks.vit_encoder import ViTEncoder


def images(dims, channels=1, count=30):
    """Blocks of one brightness with a little texture: what most of the variance of a mammogram's patches is."""
    blocks = torch.randn(count, channels, *[4] * dims)
    smooth = torch.nn.functional.interpolate(blocks, scale_factor=8)
    return [{"label": image} for image in smooth + 0.05 * torch.randn(smooth.shape)]


def encoder_of(dims=2, channels=1):
    return ViTEncoder(channels, [16] * dims, [4] * dims, 12 * dims, 24, 1, 2, spatial_dims=dims)


def tokens_of(encoder, samples):
    """What the convolution gives, (patches, D), without positions."""
    batch = downsample(torch.stack([sample["label"] for sample in samples]), encoder.img_size)
    return encoder.patch_embedding.patch_embeddings(batch).flatten(2).movedim(1, 2).flatten(0, 1)


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_tokens_start_with_mean_zero_and_variance_one(dims, channels):
    encoder, samples = encoder_of(dims, channels), images(dims, channels)
    whiten_embedding(encoder, samples, power=0.25)
    tokens = tokens_of(encoder, samples)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(tokens.shape[1]), atol=1e-3, rtol=0)
    # each number of a token is a random mixture: its variance is 1 on average over mixtures
    assert tokens.var(0).mean().item() == pytest.approx(1, abs=0.3)


def test_power_a_half_makes_all_components_equal():
    """The covariance of tokens is then that of the random mixture, W W^T, whatever the images'."""
    encoder, samples = encoder_of(), images(2)
    whiten_embedding(encoder, samples, power=0.5, variance_floor=0)
    weight = torch.randn(24, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 4
    torch.testing.assert_close(tokens_of(encoder, samples).T.cov(), (weight @ weight.T).float(), atol=0.02, rtol=0)


def test_brightness_loses_its_share_with_the_power(caplog):
    caplog.set_level("INFO")
    for power in (0.25, 0.5):
        whiten_embedding(encoder_of(), images(2), power)
    shares = [float(record.message.split("gets ")[1].split(" %")[0]) for record in caplog.records]
    assert shares[0] > 2 * shares[1]
    assert shares[1] == pytest.approx(100 / 16, rel=0.2)  # one of 16 components; the floor gives it a little more


def test_the_same_seed_and_images_give_the_same_weights_and_power_0_changes_nothing():
    first, second, other, untouched = (encoder_of() for _ in range(4))
    before = {name: value.clone() for name, value in untouched.state_dict().items()}
    samples = images(2)
    state = torch.get_rng_state()
    for encoder, seed, power in ((first, 0, 0.25), (second, 0, 0.25), (other, 1, 0.25), (untouched, 0, 0.0)):
        whiten_embedding(encoder, samples, power, seed)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [e.patch_embedding.patch_embeddings.weight for e in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert all(torch.equal(value, before[name]) for name, value in untouched.state_dict().items())


def test_images_of_one_colour_give_finite_weights():
    encoder = encoder_of()
    whiten_embedding(encoder, [{"label": torch.ones(1, 32, 32)}], power=0.5)
    assert all(value.isfinite().all() for value in encoder.state_dict().values())


def test_a_negative_power_is_refused():
    with pytest.raises(InputError, match="whitened_embedding is -1"):
        whiten_embedding(encoder_of(), images(2), power=-1)
