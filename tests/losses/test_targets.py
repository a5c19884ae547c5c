import pytest
import torch

from miram.losses.targets import gradient_directions, gradient_targets, statistics_targets
from miram.networks.patches import patchify


def test_statistics_say_how_bright_a_patch_is_and_how_strong_its_contrast():
    patches = torch.randn(2, 5, 64)
    plain = statistics_targets(patches, std_floor=1e-4)
    assert plain.shape == (2, 5, 2)
    brighter = statistics_targets(patches + 0.7, std_floor=1e-4)
    torch.testing.assert_close(brighter - plain, torch.tensor([1.0, 0]).expand(2, 5, 2), atol=1e-5, rtol=0)
    stronger = statistics_targets((patches - patches.mean(-1, keepdim=True)) * torch.e**0.5, std_floor=1e-4)
    torch.testing.assert_close(stronger[..., 1] - plain[..., 1], torch.ones(2, 5))


def test_statistics_of_a_constant_patch_are_finite():
    assert statistics_targets(torch.zeros(1, 1, 64), std_floor=0.04).isfinite().all()


@pytest.mark.parametrize(("dims", "count"), [(2, 8), (3, 13)])
def test_directions_are_different_unit_vectors_and_none_is_the_opposite_of_another(dims, count):
    directions = gradient_directions(dims)
    assert directions.shape == (count, dims)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(count))
    assert (directions @ directions.T - torch.eye(count)).abs().max() < 0.99


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ramp_has_all_its_energy_in_its_own_direction(dims):
    directions = gradient_directions(dims)
    axes = torch.stack(torch.meshgrid(*[torch.arange(8.0)] * dims, indexing="ij"), dim=-1)
    for number, direction in enumerate(directions):
        for sign in (1, -1):  # a dark and a bright edge are the same
            ramp = sign * (axes @ direction)[None, None]
            targets = gradient_targets(ramp, [4] * dims, floor=1e-4)
            assert targets.shape == (1, 2**dims, len(directions))
            expected = torch.zeros(len(directions))
            expected[number] = len(directions) ** 0.5
            torch.testing.assert_close(targets, expected.expand_as(targets), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_have_a_mean_square_of_one_whatever_the_contrast(dims):
    image = torch.randn(2, 1, *[16] * dims)
    targets = gradient_targets(image, [8] * dims, floor=0.01)
    assert targets.square().mean().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(targets, gradient_targets(3 * image + 1, [8] * dims, floor=0.03))


def test_noise_in_air_has_no_direction():
    assert gradient_targets(1e-3 * torch.randn(1, 1, 16, 16), (8, 8), floor=0.04).max() < 0.1


def test_gradients_are_those_of_each_patch_in_the_order_of_its_pixels():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 2, 11] = 1  # in patch 1 of the grid
    targets = gradient_targets(image, (8, 8), floor=0.04)
    assert targets.amax(-1)[0].gt(0).tolist() == patchify(image, (8, 8)).amax(-1)[0].gt(0).tolist()
