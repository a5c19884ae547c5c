import itertools

import pytest
import torch
from monai.networks.blocks import PatchEmbeddingBlock

from miram.networks.patches import (
    patch_grid,
    patchify,
    positions_on_grid,
    resize_position_embeddings,
    scaled_grid,
    unpatchify,
)


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


@pytest.mark.parametrize(("grid", "new_grid"), [((4, 4), (8, 6)), ((2, 2, 4), (4, 4, 4))])
def test_a_linear_ramp_of_positions_stays_one(grid, new_grid):
    """Away from the border, where there is nothing to interpolate between."""
    axes = torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in grid], indexing="ij")
    new_axes = torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in new_grid], indexing="ij")
    positions = torch.stack([axis.flatten() for axis in axes], dim=1)[None]
    expected = torch.stack(new_axes, dim=-1)
    found = resize_position_embeddings(positions, grid, new_grid).reshape(expected.shape)
    if len(grid) == 2:
        inner = (slice(3, 5), slice(2, 4))
        # torch's bicubic kernel (a = -0.75) bends a ramp by up to 5 % of a patch's side, here 1/4
        torch.testing.assert_close(found[inner], expected[inner], atol=0.05 / 4, rtol=0)
    else:
        torch.testing.assert_close(found[:, :, 1:3, 2], expected[:, :, 1:3, 2])


@pytest.mark.parametrize(("grid", "new_grid"), [((4, 4), (6, 3)), ((2, 3, 4), (4, 3, 2))])
def test_fixed_positions_are_those_that_monai_makes_for_the_new_size(grid, new_grid):
    def of(grid):
        size = [8 * n for n in grid]
        block = PatchEmbeddingBlock(1, size, 8, 24, 2, pos_embed_type="sincos", spatial_dims=len(grid))
        return block.position_embeddings.detach()

    assert torch.equal(positions_on_grid(of(grid), "sincos", grid, new_grid), of(new_grid))


def test_learned_positions_are_interpolated():
    positions = torch.randn(1, 6, 4)
    expected = resize_position_embeddings(positions, (2, 3), (4, 4))
    assert torch.equal(positions_on_grid(positions, "learnable", (2, 3), (4, 4)), expected)


@pytest.mark.parametrize("kind", ["sincos", "learnable"])
def test_grids_that_do_not_fit_are_refused(kind):
    with pytest.raises(ValueError, match="15 positions do not fit a grid"):
        positions_on_grid(torch.zeros(1, 15, 8), kind, (4, 4), (8, 8))
    with pytest.raises(ValueError, match=r"\(4, 4\) patches cannot be changed to one of \(4, 4, 4\)"):
        positions_on_grid(torch.zeros(1, 16, 8), kind, (4, 4), (4, 4, 4))
