import itertools
import math

import pytest
import torch

from miram.transforms.augment import RandomFlipRotate90, RandomView, enlarge_corners, symmetries


def test_every_image_is_flipped_and_turned_for_itself():
    image = torch.arange(9.0).view(1, 1, 3, 3).expand(64, -1, -1, -1)
    result = RandomFlipRotate90(seed=2)(image, 1, torch.arange(64))
    possible = [image[0].flip(axes).rot90(turns, (-2, -1)) for axes in ((), (-1,)) for turns in range(4)]
    found = [next(number for number, one in enumerate(possible) if torch.equal(one, other)) for other in result]
    assert set(found) == set(range(8))


def test_what_is_drawn_follows_from_seed_epoch_and_sample():
    image = torch.randn(8, 1, 4, 4)
    augment = RandomFlipRotate90(seed=2)
    result = augment(image, 3, torch.arange(8))
    assert torch.equal(result[5:6], augment(image[5:6], 3, torch.tensor([5])))
    for other in (augment(image, 4, torch.arange(8)), RandomFlipRotate90(seed=1)(image, 3, torch.arange(8))):
        assert not torch.equal(result, other)


@pytest.mark.parametrize(("flip", "rotate"), itertools.product((0.0, 1.0), (0.0, 1.0)))
def test_probabilities_are_kept(flip, rotate):
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(4000, -1, -1, -1)
    result = RandomFlipRotate90(flip_prob=flip, rotate_prob=rotate)(image, 1, torch.arange(4000))
    kinds, counts = result.flatten(1).unique(dim=0, return_counts=True)
    unturned = image[0].flip((-1, -2)) if flip else image[0]
    assert any(torch.equal(kind, unturned.flatten()) for kind in kinds) == (not rotate)
    assert len(kinds) == (3 if rotate else 1)
    # three turns are a third each; deviation of a count sqrt(4000 x 2 / 9) = 30, 5 of them
    assert (counts - 4000 / len(kinds)).abs().max() < 150


def test_validation_is_left_alone():
    image = torch.randn(4, 1, 4, 4)
    assert torch.equal(RandomFlipRotate90()(image, 0, torch.arange(4)), image)


def test_images_whose_sides_differ_are_flipped_and_not_turned():
    image = torch.arange(6.0).view(1, 1, 2, 3).expand(64, -1, -1, -1)
    result = RandomFlipRotate90(seed=2)(image, 1, torch.arange(64))
    possible = [image[0].flip(axes) for axes in ((), (-1,), (-2,), (-1, -2))]
    found = {next(number for number, one in enumerate(possible) if torch.equal(one, other)) for other in result}
    assert found == set(range(4))


@pytest.mark.parametrize(("size", "count"), [((3, 3), 8), ((3, 2), 4), ((3, 3, 3), 8)])
def test_every_symmetry_comes_once_and_the_image_first(size, count):
    image = torch.arange(2 * math.prod(size), dtype=torch.float32).reshape(2, 1, *size)
    versions = list(symmetries(image))
    assert torch.equal(versions[0], image)
    assert {version.shape for version in versions} == {image.shape}
    assert len({tuple(version.flatten().tolist()) for version in versions}) == len(versions) == count
    for version in versions:
        torch.testing.assert_close(version.flatten(1).sort().values, image.flatten(1))


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


@pytest.mark.parametrize(
    ("mode", "sides"), [("bilinear", [[5, 3], [8, 8], [1, 6]]), ("trilinear", [[5, 3, 8], [2, 2, 2]])]
)
def test_the_first_part_of_an_image_is_enlarged_as_interpolation_does(mode, sides):
    size = [8] * len(sides[0])
    image = torch.randn(len(sides), 2, *size)
    found = enlarge_corners(image, torch.tensor(sides))
    for one, result, side in zip(image, found, sides, strict=True):
        part = one[None][(..., *(slice(length) for length in side))]
        expected = torch.nn.functional.interpolate(part, size=size, mode=mode, align_corners=False)[0]
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
