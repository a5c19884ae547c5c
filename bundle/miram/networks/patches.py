"""Images as sequences of patches, and back; and position embeddings for another grid of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding

# The key in a state dictionary of `monai.networks.nets.ViT` and of our encoder.
POSITIONS = "patch_embedding.position_embeddings"


def patch_grid(image_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """
    The number of patches along each spatial dimension.

    Returns:
        the grid, one entry per spatial dimension.

    Raises:
        ValueError: if the numbers of dimensions differ, or an image size is not a multiple of its patch size.
    """
    if len(image_size) != len(patch_size):
        raise ValueError(f"image_size {tuple(image_size)} and patch_size {tuple(patch_size)} differ in dimensions.")
    if any(p < 1 or n < p or n % p for n, p in zip(image_size, patch_size, strict=True)):
        raise ValueError(
            f"image_size {tuple(image_size)} is not a multiple of patch_size {tuple(patch_size)}: "
            "choose an image size that is divisible by the patch size."
        )
    return tuple(n // p for n, p in zip(image_size, patch_size, strict=True))


def scaled_grid(grid: Sequence[int], scale: float) -> tuple[int, ...]:
    """
    The grid of patches of an image `scale` times as large as the one whose grid is given.

    Raises:
        ValueError: if the scale is not positive, or does not give a whole number of patches.
    """
    sizes = [n * scale for n in grid]
    if scale <= 0 or any(size < 1 or not math.isclose(size, round(size), abs_tol=1e-6) for size in sizes):
        raise ValueError(
            f"scale {scale} does not give a whole grid: {tuple(grid)} patches become {tuple(sizes)}. "
            "Choose a scale that keeps the number of patches whole, or another image size."
        )
    return tuple(round(size) for size in sizes)


def patchify(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """
    Cut an image into non-overlapping patches.

    Args:
        image: (B, C, *spatial), each spatial size a multiple of its patch size.

    Returns:
        (B, N, P): N patches in row-major grid order, P = prod(patch_size) * C values each, channels last as in MAE.

    Raises:
        ValueError: if a spatial size is not a multiple of its patch size.
    """
    patch_grid(image.shape[2:], patch_size)
    if len(patch_size) == 2:
        p, q = patch_size
        return rearrange(image, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=q)
    p, q, r = patch_size
    return rearrange(image, "b c (h p) (w q) (d r) -> b (h w d) (p q r c)", p=p, q=q, r=r)


def pick(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """
    Select the tokens or patches (B, N, D) with indices (B, n): (B, n, D).

    `gather` would do the same, but its backward pass keeps all tokens, only for their shape.
    """
    rows = places + torch.arange(len(places), device=places.device)[:, None] * tokens.shape[1]
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, places.shape)


def unpatchify(patches: torch.Tensor, patch_size: Sequence[int], grid: Sequence[int]) -> torch.Tensor:
    """
    Reassemble patches into an image: the exact inverse of :func:`patchify`.

    Args:
        patches: (B, N, P), N = prod(grid).

    Returns:
        (B, C, *spatial), C = P / prod(patch_size).

    Raises:
        ValueError: if N or P does not fit the grid and the patch size.
    """
    if patches.shape[1] != math.prod(grid) or patches.shape[2] % math.prod(patch_size):
        raise ValueError(
            f"patches of shape {tuple(patches.shape)} do not fit grid {tuple(grid)} and patch_size {tuple(patch_size)}."
        )
    if len(patch_size) == 2:
        (p, q), (h, w) = patch_size, grid
        return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=p, q=q)
    (p, q, r), (h, w, d) = patch_size, grid
    return rearrange(patches, "b (h w d) (p q r c) -> b c (h p) (w q) (d r)", h=h, w=w, d=d, p=p, q=q, r=r)


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
    Interpolate learned positions (Dosovitskiy et al., arXiv 2010.11929, section 3.2); see :func:`positions_on_grid`.

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
