import numpy as np
import pytest
import torch
from torch.nn import functional

from miram.errors import InputError
from miram.inference.mammograms import whole_breast
from miram.inference.token_maps import load_token_map_encoder

from ..exam_case import make_backbone, make_view

PITCH = 8  # a window of 32 pixels has 4 x 4 tokens


@pytest.fixture
def encoder(tmp_path):
    return load_token_map_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu", batch_size=5)


@pytest.fixture
def view():
    return np.pad(make_view(True, np.random.default_rng(0)), [(0, 5), (0, 70)])


def test_a_map_has_a_place_for_every_token_of_the_view(encoder, view):
    assert view.shape == (101, 134)
    assert encoder.map(view).shape == (25, 14, 18)  # width 24 and the breast; an even number of rows and columns
    assert encoder.num_channels == 25
    assert encoder.pixels_per_token == PITCH


def test_a_token_lies_where_its_pixels_are(encoder, view, monkeypatch):
    def means(images):
        return [functional.avg_pool2d(images, 4).flatten(1)[..., None].expand(-1, -1, 24)]

    monkeypatch.setattr(encoder.encoder, "hidden_states", means)
    values = encoder.map(view)
    padded = np.pad(view, [(0, 14 * PITCH - 101), (0, 18 * PITCH - 134)]).astype(float) / 65535 * 4 - 2
    expected = padded.reshape(14, PITCH, 18, PITCH).mean(axis=(1, 3))
    shown = values[-1] > 0
    np.testing.assert_allclose(values[0][shown], expected[shown], atol=2e-3)  # float16


def test_a_token_is_the_mean_of_its_windows_weighted_by_the_distance_to_their_edges(encoder, monkeypatch):
    """Each window's tokens are its mean, so that the two windows over a token differ."""

    def means(images):
        return [images.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 16, 24)]

    monkeypatch.setattr(encoder.encoder, "hidden_states", means)
    pixels = np.zeros((64, 64), np.uint16)
    pixels[:, :] = 1000 * np.arange(1, 65)  # tissue that brightens to the right
    monkeypatch.setattr("miram.inference.token_maps.whole_breast", lambda pixels: np.ones(pixels.shape, bool))
    values = encoder.map(pixels)[0].astype(float)
    scaled = pixels.astype(float) / 65535 * 4 - 2
    first = [scaled[:32, 32 * n : 32 * n + 32].mean() for n in range(2)]  # of the grid that begins at the corner
    air = np.full((16, 32), -2.0)
    shifted = np.concatenate([air, scaled[:16, 16:48]]).mean(), scaled[16:48, 16:48].mean()
    tent = {0: 0.5, 1: 1.5, 2: 1.5, 3: 0.5}  # along one axis, of the four tokens of a window
    for row, column in ((0, 2), (0, 3), (1, 3)):  # columns 2 and 3 are the middle window's first two
        weights = tent[row] * tent[column], tent[row + 2] * tent[column - 2]
        expected = (weights[0] * first[0] + weights[1] * shifted[0]) / sum(weights)
        assert values[row, column] == pytest.approx(expected, abs=5e-3)  # float16


def test_the_last_channel_says_where_the_breast_is(encoder, view):
    padded = np.pad(whole_breast(view), [(0, 14 * PITCH - 101), (0, 18 * PITCH - 134)])
    expected = padded.reshape(14, PITCH, 18, PITCH).any(axis=(1, 3))
    np.testing.assert_array_equal(encoder.map(view)[-1], expected)


def test_a_map_does_not_depend_on_the_batch_and_air_is_zero(encoder, view, tmp_path):
    other = load_token_map_encoder(tmp_path / "backbone.pt", "cpu", batch_size=64)
    np.testing.assert_allclose(encoder.map(view).astype(float), other.map(view).astype(float), atol=2e-3)
    assert not encoder.map(view)[:, :, 12:].any()  # the breast ends at 48 pixels, the last window with it at 96
    assert encoder.map(view)[:-1, :, :6].any()


def test_a_view_without_a_breast_is_an_error(encoder):
    with pytest.raises(InputError, match="no breast"):
        encoder.map(np.zeros((64, 64), np.uint16))


def test_a_token_is_a_whole_number_of_pixels(tmp_path):
    backbone = make_backbone(tmp_path / "backbone.pt")
    with pytest.raises(InputError, match="a window has 4 x 4 tokens"):
        load_token_map_encoder(backbone, "cpu", field_of_view=[34, 34])
    with pytest.raises(InputError, match="same multiple of both"):
        load_token_map_encoder(backbone, "cpu", field_of_view=[32, 64])
    with pytest.raises(InputError, match="numbers from 1 to 1"):
        load_token_map_encoder(backbone, "cpu", blocks=[2])


def test_tokens_of_several_blocks_are_joined(encoder, view):
    states = [torch.full((2, 16, 24), 1.0), torch.full((2, 16, 24), 2.0), torch.full((2, 16, 24), 3.0)]
    encoder.blocks = [1, 3]
    encoder.encoder.hidden_states = lambda images: [state[:1].expand(len(images), -1, -1) for state in states]
    values = encoder.map(view)
    assert len(values) == 49
    assert (values[0, 2, 1], values[24, 2, 1]) == (1, 3)
