"""Reconstruction errors, separately for coarse and fine detail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def band_energies(patches: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """
    Split the mean square of each patch into that of its means over 2 x 2 (x 2) pixels, and the rest.

    The two parts are orthogonal (a one-level Haar transform), so they add up to the mean square.

    Args:
        patches: (B, N, P)
        patch_size: in pixels, even numbers.

    Returns:
        (B, N, 2): low and high frequencies.
    """
    pixels = patches.flatten(0, 1).unflatten(1, (*patch_size, -1)).movedim(-1, 1)  # (B N, C, *patch_size)
    pool = F.avg_pool2d if len(patch_size) == 2 else F.avg_pool3d
    low = pool(pixels, 2).square().flatten(1).mean(dim=1)
    total = pixels.square().flatten(1).mean(dim=1)
    return torch.stack((low, total - low), dim=-1).unflatten(0, patches.shape[:2])


def band_sums(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, patch_size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Sum the bands' squared errors and squared targets over the hidden patches.

    Args:
        prediction: (B, N, P)
        target: (B, N, P), whose mean is 0 in each patch if targets are normalised.
        mask: (B, N) bool, True where hidden.
        patch_size: in pixels, even numbers.

    Returns:
        the errors (2,), low and high, and the same if every hidden patch were predicted as 0, its mean.
    """
    error = band_energies(prediction.float() - target, patch_size)
    energy = band_energies(target, patch_size)
    return error[mask].sum(dim=0), energy[mask].sum(dim=0)
