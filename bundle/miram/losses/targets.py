"""What a hidden patch is compared with: its pixels, its mean and contrast, and its gradients by direction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F

from miram.networks.patches import patchify, pick

# Mean and standard deviation, over patches of CBIS-DDSM's masses and tissue at 1x, of what is predicted, with pixels
# from -2 to 2: they bring both numbers to the order of 1. On other images they change only how much each one weighs.
_MEAN_CENTER, _MEAN_SCALE = 0.0, 0.7
_LOG_STD_CENTER, _LOG_STD_SCALE = -2.5, 0.5


def patch_statistics(patches: torch.Tensor, std_floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (..., 1) and standard deviation (..., 1) of patches (..., P); the latter is sqrt(variance + floor^2)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + std_floor**2).sqrt()


def statistics_targets(patches: torch.Tensor, std_floor: float) -> torch.Tensor:
    """
    The two numbers that normalising a patch throws away, its mean and the logarithm of its standard deviation.

    Args:
        patches: (..., P), of pixels from -2 to 2.
        std_floor: see :func:`patch_statistics`.

    Returns:
        (..., 2), of the order of 1.
    """
    mean, std = patch_statistics(patches, std_floor)
    scaled = (mean - _MEAN_CENTER) / _MEAN_SCALE, (std.log() - _LOG_STD_CENTER) / _LOG_STD_SCALE
    return torch.cat(scaled, dim=-1)


def gradient_directions(spatial_dims: int) -> torch.Tensor:
    """
    Unit vectors (K, d), one per pair of opposite directions: 8 evenly spaced ones of the plane, or in 3D the 13 from a
    voxel to its neighbours.
    """
    if spatial_dims == 2:
        angles = torch.arange(8) * torch.pi / 8
        return torch.stack((angles.cos(), angles.sin()), dim=1)
    steps = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=spatial_dims)))
    return F.normalize(steps[len(steps) // 2 + 1 :], dim=1)  # the second half; the first is its opposite


def gradient_targets(
    image: torch.Tensor, patch_size: Sequence[int], floor: float, places: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Each patch's gradient energy by direction: histograms of oriented gradients (HOG), which MaskFeat predicts (Wei et
    al., arXiv 2112.09133), in 2D and 3D.

    A pixel's squared gradient counts for the nearest of :func:`gradient_directions`; dark to bright and bright to dark
    are the same. A patch's energies are divided by their sum, so a target says how edges run and not how strong they
    are: the patch's standard deviation says that (:func:`statistics_targets`).

    Args:
        image: (B, C, *spatial)
        patch_size: patch size in pixels, one per spatial dimension.
        floor: standard deviation of noise, whose energy is added to the sum, so that air has no direction.
        places: (B, n) indices of the wanted patches; None for all.

    Returns:
        (B, N, K) or (B, n, K) square roots of K times the shares: their mean square is 1 where gradients are above the
        floor.
    """
    dims = len(patch_size)
    gradient = torch.stack(torch.gradient(image, dim=list(range(2, 2 + dims))), dim=2)  # (B, C, d, *spatial)
    patches = patchify(gradient.flatten(1, 2), patch_size)
    patches = patches if places is None else pick(patches, places)
    vectors = patches.unflatten(2, (-1, dims))  # (B, n, P, d)
    directions = gradient_directions(dims).to(image)
    nearest = (vectors @ directions.T).abs().argmax(dim=-1)
    energy = vectors.square().sum(dim=-1)
    bins = [(energy * (nearest == number)).mean(dim=-1) for number in range(len(directions))]
    energies = torch.stack(bins, dim=-1)
    shares = energies / (energies.sum(dim=-1, keepdim=True) + floor**2)
    return (len(directions) * shares).sqrt()
