"""The reconstruction loss: per scale, masked patches only, with targets normalised patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from miram.networks.patches import patchify, pick


class MultiScaleReconstructionLoss(nn.Module):
    """
    Mean squared error of the masked patches, summed over scales with weights (MIRAM, arXiv 2503.07157; MAE, arXiv
    2111.06377).

    Args:
        image_size: size of the encoder's image in pixels, one per spatial dimension.
        patch_size: patch size in pixels, one per spatial dimension; the same at every scale.
        scales: the scales, in the decoders' order.
        weights: weight of each scale in the sum; equal weights of 1 by default.
        normalize_targets: compare with pixels normalised by their own patch's mean and standard deviation (MAE's
            `norm_pix`).
        patch_std_floor: standard deviation, in the image's units, that is added in quadrature to a patch's own. A
            patch of air whose pixels vary by less than this is noise: without a floor it would be amplified to a
            target of unit variance.

    Raises:
        ValueError: if the numbers of weights and scales differ, a weight is negative or all are zero, or the floor is
            not positive.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: Sequence[int],
        scales: Sequence[float],
        weights: Sequence[float] | None = None,
        normalize_targets: bool = True,
        patch_std_floor: float = 0.04,
    ) -> None:
        super().__init__()
        self.sizes = [tuple(round(size * scale) for size in image_size) for scale in scales]
        self.patch_size = tuple(patch_size)
        earlier = [list(scales[:place]).count(scale) for place, scale in enumerate(scales)]  # of the same scale
        self.names = [
            f"loss_{scale:g}x" + f"_{count + 1}" * (count > 0) for scale, count in zip(scales, earlier, strict=True)
        ]
        self.weights = [1.0] * len(scales) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(self.names) or min(self.weights) < 0 or sum(self.weights) == 0:
            raise ValueError(
                f"need one weight >= 0 per scale, not all 0: got {self.weights} for scales {list(scales)}."
            )
        if patch_std_floor <= 0:
            raise ValueError(f"patch_std_floor must be positive, got {patch_std_floor}.")
        self.normalize_targets = normalize_targets
        self.patch_std_floor = patch_std_floor

    def targets(self, label: torch.Tensor, places: Sequence[torch.Tensor | None] | None = None) -> list[torch.Tensor]:
        """
        The target patches of each scale.

        Args:
            label: (B, C, *spatial), the image at the largest scale's size.
            places: per scale, the indices (B, n) of the wanted patches on its grid; None for all.

        Returns:
            (B, N_s, P) or (B, n, P) per scale, in float32.
        """
        patches = [patchify(downsample(label.float(), size), self.patch_size) for size in self.sizes]
        if places is not None:
            patches = [
                every if wanted is None else pick(every, wanted) for every, wanted in zip(patches, places, strict=True)
            ]
        return [self.normalize(patch) for patch in patches] if self.normalize_targets else patches

    def normalize(self, patches: torch.Tensor) -> torch.Tensor:
        """Subtract each patch's mean and divide by its standard deviation with the floor: (..., P) to (..., P)."""
        mean, std = patch_statistics(patches, self.patch_std_floor)
        return (patches - mean) / std

    def per_image(self, output: dict[str, list[Any]], label: torch.Tensor) -> torch.Tensor:
        """
        The unweighted loss of each image at each scale.

        Args:
            output: what :class:`miram.networks.miram.MIRAM` returns.
            label: (B, C, *spatial), the image at the largest scale's size.

        Returns:
            (B, S)
        """
        targets = self.targets(label, output["places"])
        losses = [
            masked_mean_squared_error(prediction, target, mask)
            for prediction, target, mask in zip(output["predictions"], targets, output["masks"], strict=True)
        ]
        return torch.stack(losses, dim=1)

    def forward(self, output: dict[str, list[Any]], label: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        The loss of a batch.

        Args:
            output: what :class:`miram.networks.miram.MIRAM` returns.
            label: (B, C, *spatial), the image at the largest scale's size.

        Returns:
            "loss", the weighted sum to minimise, and each scale's unweighted loss by name ("loss_1x", "loss_2x").
        """
        per_scale = self.per_image(output, label).mean(dim=0).unbind()
        total = sum(weight * loss for weight, loss in zip(self.weights, per_scale, strict=True))
        return {"loss": total, **dict(zip(self.names, per_scale, strict=True))}  # type: ignore[dict-item]


def masked_mean_squared_error(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    The mean squared error of each image's masked patches; 0 if it has none, as can happen at coarse scales.

    Args:
        prediction: (B, N, P)
        target: (B, N, P)
        mask: (B, N) bool

    Returns:
        (B,) in float32
    """
    error = (prediction.float() - target).square().mean(dim=-1)
    return (error * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def patch_statistics(patches: torch.Tensor, std_floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (..., 1) and standard deviation (..., 1) of patches (..., P); the latter is sqrt(variance + floor^2)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + std_floor**2).sqrt()


def downsample(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """
    Downsample an image (B, C, *spatial) to `size` pixels; each new pixel is the mean of those that it covers.

    Area averaging has no aliasing, is the same in 2D and 3D, and is exact for integer factors.

    Raises:
        ValueError: if `size` is larger than the image: detail cannot be invented.
    """
    if tuple(image.shape[2:]) == tuple(size):
        return image
    if any(new > old for new, old in zip(size, image.shape[2:], strict=True)):
        raise ValueError(f"an image of {tuple(image.shape[2:])} pixels cannot be reduced to {tuple(size)}.")
    return F.interpolate(image, size=tuple(size), mode="area")
