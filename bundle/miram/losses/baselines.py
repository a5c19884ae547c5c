"""The loss of reconstructions without learning: the figures that a trained network must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from miram.losses.reconstruction import (
    MultiScaleReconstructionLoss,
    downsample,
    masked_mean_squared_error,
)
from miram.losses.targets import patch_statistics
from miram.networks.patches import patch_grid, patchify, unpatchify


def interpolate_hidden(image: torch.Tensor, visible: torch.Tensor, sweeps: int = 10) -> torch.Tensor:
    """
    Fill the hidden pixels of an image smoothly: each becomes the mean of its neighbours (a membrane through the visible
    pixels).

    Solved from coarse to fine: a half-size image of the visible pixels' means is filled first; enlarged, it is the
    initial value.

    Args:
        image: (B, C, *spatial)
        visible: (B, 1, *spatial), 1 where a pixel is visible, 0 where it is hidden.
        sweeps: averaging steps at each size; few are needed, because the initial value is close.

    Returns:
        (B, C, *spatial), unchanged where visible.
    """
    if min(image.shape[2:]) < 2:
        weight = visible.flatten(2).sum(2).clamp(min=1)
        filled = ((image * visible).flatten(2).sum(2) / weight).unflatten(1, (-1, *[1] * (image.ndim - 2)))
        return torch.where(visible > 0, image, filled)
    half = [size // 2 for size in image.shape[2:]]
    weight = F.interpolate(visible, size=half, mode="area")
    mean = F.interpolate(image * visible, size=half, mode="area") / weight.clamp(min=1e-6)
    coarse = interpolate_hidden(mean, (weight > 0).to(image.dtype), sweeps)
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    filled = F.interpolate(coarse, size=image.shape[2:], mode=mode, align_corners=False)
    for _ in range(sweeps):
        filled = _neighbours_mean(torch.where(visible > 0, image, filled))
    return torch.where(visible > 0, image, filled)


def _neighbours_mean(image: torch.Tensor) -> torch.Tensor:
    """The mean over the 3 x 3 (x 3) pixels around each; beyond the border the edge pixels are repeated."""
    padded = F.pad(image, [1] * (2 * (image.ndim - 2)), mode="replicate")
    return (F.avg_pool2d if image.ndim == 4 else F.avg_pool3d)(padded, 3, stride=1)


def baseline_per_image(
    loss_function: MultiScaleReconstructionLoss, label: torch.Tensor, masks: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """
    The loss of two reconstructions that need no network, compared with the same pixels as the network's.

    Args:
        loss_function: the loss, which has the sizes of the scales.
        label: (B, C, *spatial), the image at the largest scale's size.
        masks: (B, N_s) bool per scale, True where hidden.

    Returns:
        (B, S) each: "mean", every patch predicted as its own mean, which is trivial with normalised targets; and
        "interpolation", the hidden patches interpolated from the visible ones.
    """
    means, interpolations = [], []
    for size, targets, mask in zip(loss_function.sizes, loss_function.targets(label), masks, strict=True):
        target = loss_function.split(targets)[0]
        means.append(masked_mean_squared_error(_patch_means(loss_function, label, size), target, mask))
        guess = _interpolated(loss_function, downsample(label.float(), size), mask)
        interpolations.append(masked_mean_squared_error(guess, target, mask))
    return {"mean": torch.stack(means, 1), "interpolation": torch.stack(interpolations, 1)}


def _patch_means(loss: MultiScaleReconstructionLoss, label: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Each patch's own mean in the units of the targets: 0 if targets are normalised."""
    patches = patchify(downsample(label.float(), size), loss.patch_size)
    return torch.zeros_like(patches) if loss.normalize_targets else patches.mean(-1, keepdim=True).expand_as(patches)


def _interpolated(loss: MultiScaleReconstructionLoss, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """An image's patches, hidden ones interpolated, in the units of the targets (normalised by their statistics)."""
    pixels = patchify(image, loss.patch_size)
    grid = patch_grid(image.shape[2:], loss.patch_size)
    one_channel = pixels.shape[-1] // image.shape[1]
    visible = unpatchify((~mask)[..., None].to(image.dtype).expand(-1, -1, one_channel), loss.patch_size, grid)
    guess = patchify(interpolate_hidden(image, visible), loss.patch_size)
    if not loss.normalize_targets:
        return guess
    mean, std = patch_statistics(pixels, loss.patch_std_floor)
    return (guess - mean) / std
