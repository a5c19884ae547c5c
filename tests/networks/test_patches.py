import itertools

import pytest
import torch

from miram.networks.patches import patch_grid, patchify, scaled_grid, unpatchify


@pytest.mark.parametrize(
    ("size", "patch", "channels"),
    [(*shape, c) for shape, c in itertools.product([((32, 48), (8, 16)), ((16, 24, 8), (8, 4, 2))], [1, 3])],
)
def test_unpatchify_inverts_patchify_exactly(size, patch, channels):
    image = torch.randn(2, channels, *size)
    patches = patchify(image, patch)
    grid = patch_grid(size, patch)
    assert patches.shape == (2, torch.tensor(grid).prod(), torch.tensor(patch).prod() * channels)
    assert torch.equal(unpatchify(patches, patch, grid), image)


def test_patches_come_in_row_major_order():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert patchify(image, (2, 2))[0, 1].tolist() == [2, 3, 6, 7]


def test_a_size_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        patchify(torch.zeros(1, 1, 30, 32), (8, 8))


def test_patches_that_do_not_fit_the_grid_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        unpatchify(torch.zeros(1, 15, 64), (8, 8), (4, 4))


@pytest.mark.parametrize(
    ("scale", "grid"), [(0.5, (7, 7)), (1, (14, 14)), (1.5, (21, 21)), (2, (28, 28)), (4, (56, 56))]
)
def test_a_scale_multiplies_the_grid(scale, grid):
    assert scaled_grid((14, 14), scale) == grid


@pytest.mark.parametrize("scale", [0, -1, 0.3, 1.1])
def test_a_scale_without_a_whole_grid_is_refused(scale):
    with pytest.raises(ValueError, match="not give a whole grid"):
        scaled_grid((14, 14), scale)
