import pytest
import torch

from miram.transforms.views import RandomView

PLAIN = {"contrast_range": 0, "brightness_range": 0, "noise_std": 0}


@pytest.fixture
def image() -> torch.Tensor:
    """Two images that rise from left to right, by 1 a pixel."""
    return torch.arange(32.0).expand(2, 1, 24, 32).clone()


def test_views_follow_from_seed_epoch_and_sample(image):
    index = torch.tensor([3, 8])
    view = RandomView(seed=1)(image, 2, index)
    assert view.shape == image.shape
    assert torch.equal(view, RandomView(seed=1)(image, 2, index))
    # the kernels for one and for two images may round differently
    torch.testing.assert_close(view[1:], RandomView(seed=1)(image[1:], 2, index[1:]))
    for other in (RandomView(seed=2)(image, 2, index), RandomView(seed=1)(image, 3, index)):
        assert not torch.allclose(view, other)


def test_a_view_is_an_enlarged_and_mirrored_part(image):
    for sample in range(20):
        view = RandomView(min_side=0.5, **PLAIN)(image[:1], 0, torch.tensor([sample]))
        steps = view[0, 0, :, 4:-4].diff(dim=-1)  # at the border, half a pixel of a part may lie outside
        torch.testing.assert_close(steps.abs(), steps[0, 0].abs().expand_as(steps), atol=1e-3, rtol=0)
        assert 0.5 - 1e-3 <= steps[0, 0].abs() <= 1 + 1e-3
        assert 0 <= view.min() <= view.max() <= 31


def test_parts_reach_every_border_and_are_mirrored_half_of_the_time(image):
    views = RandomView(min_side=0.5, **PLAIN)(image[:1].expand(400, -1, -1, -1), 0, torch.arange(400))
    assert views.min() < 0.5
    assert views.max() > 30.5
    rising = (views[:, 0, 0, -1] > views[:, 0, 0, 0]).float().mean()
    assert abs(rising - 0.5) < 0.125  # deviation 0.025; 5 of them


def test_the_whole_image_without_distortions_is_the_image_or_its_mirror_image(image):
    view = RandomView(min_side=1, **PLAIN)(image, 0, torch.arange(2))
    for one, other in zip(view, image, strict=True):
        assert torch.allclose(one, other, atol=1e-4) or torch.allclose(one, other.flip(-1), atol=1e-4)


def test_intensities_change_within_their_ranges():
    flat = torch.full((500, 1, 8, 8), 2.0)
    view = RandomView(contrast_range=0.5, brightness_range=0.25, noise_std=0)(flat, 0, torch.arange(500))
    assert 0.75 <= view.min() < 0.9
    assert 3.1 < view.max() <= 3.25
    noisy = RandomView(contrast_range=0, brightness_range=0, noise_std=0.2)(flat, 0, torch.arange(500)) - flat
    assert noisy.flatten(1).std(1).max() < 0.2 * 1.5  # of 64 pixels: deviation of a deviation about 9 %, 5 of them
    # the standard deviation is uniform up to 0.2: variance 0.2^2 / 3 on average
    assert abs(noisy.var().item() / (0.04 / 3) - 1) < 0.2
    assert abs(noisy.mean().item()) < 0.005


def test_volumes_have_views_too():
    volume = torch.randn(2, 1, 8, 12, 16)
    assert RandomView()(volume, 1, torch.arange(2)).shape == volume.shape


@pytest.mark.parametrize("arguments", [{"min_side": 0}, {"min_side": 1.5}, {"noise_std": -1}])
def test_wrong_ranges_are_refused(arguments):
    with pytest.raises(ValueError, match="must"):
        RandomView(**arguments)
