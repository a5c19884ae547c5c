"""Position embeddings for the grid of another image size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding

# The key in a state dictionary of `monai.networks.nets.ViT` and of our encoder.
POSITIONS = "patch_embedding.position_embeddings"


def positions_on_grid(
    positions: torch.Tensor, pos_embed_type: str, grid: Sequence[int], new_grid: Sequence[int]
) -> torch.Tensor:
    """
    Position embeddings for another grid of patches: fixed ones are computed anew, learned ones are interpolated.

    Args:
        positions: (1, N, D), N = prod(grid), in row-major order, without that of a class token.
        pos_embed_type: "sincos", "learnable" or "none", as MONAI names them.
        grid: patches along each of the 2 or 3 spatial dimensions.
        new_grid: the same for the new grid.

    Returns:
        (1, M, D), M = prod(new_grid).

    Raises:
        ValueError: if N does not fit the grid, or the grids differ in dimensions.
    """
    _check_grids(positions, grid, new_grid)
    if pos_embed_type == "sincos":
        return build_sincos_position_embedding(list(new_grid), positions.shape[2], len(new_grid)).detach()
    return resize_position_embeddings(positions, grid, new_grid)


def resize_position_embeddings(positions: torch.Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> torch.Tensor:
    """
    Interpolate learned positions for another grid of patches (Dosovitskiy et al., arXiv 2010.11929, section 3.2).

    Returns:
        (1, M, D), M = prod(new_grid).

    Raises:
        ValueError: if N does not fit the grid, or the grids differ in dimensions.
    """
    _check_grids(positions, grid, new_grid)
    field = positions.transpose(1, 2).unflatten(2, tuple(grid))  # (1, D, *grid)
    mode = "bicubic" if len(grid) == 2 else "trilinear"
    field = F.interpolate(field, size=tuple(new_grid), mode=mode, align_corners=False)
    return field.flatten(2).transpose(1, 2)


def _check_grids(positions: torch.Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> None:
    if positions.shape[1] != math.prod(grid):
        raise ValueError(f"{positions.shape[1]} positions do not fit a grid of {tuple(grid)} patches.")
    if len(grid) != len(new_grid):
        raise ValueError(f"a grid of {tuple(grid)} patches cannot be changed to one of {tuple(new_grid)}.")
