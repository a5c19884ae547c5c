"""The reconstruction loss: per scale, masked patches only, with targets normalised patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from miram.losses.targets import gradient_directions, gradient_targets, patch_statistics, statistics_targets
from miram.losses.texture import TextureDescriptors
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
        statistics_weight: weight, at each scale, of the error of two more numbers per patch: its own mean and contrast,
            which `normalize_targets` throws away (:func:`miram.losses.targets.statistics_targets`). Not in the papers.
        gradient_weight: weight, at each scale, of the error of the patch's gradients by direction (MaskFeat, arXiv
            2112.09133; gradient maps are also predicted by Uni4Eye, arXiv 2203.04614;
            :func:`miram.losses.targets.gradient_targets`).
        texture_weight: weight, at each scale, of the error of the whole image's texture, which the network predicts
            from the encoder's tokens (:class:`miram.losses.texture.TextureDescriptors`). Not in the papers.

    What has weight 0 is not predicted. The network's decoders need `extra_outputs` for the others, and the network
    needs `texture_outputs`.

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
        statistics_weight: float = 0.0,
        gradient_weight: float = 0.0,
        texture_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.sizes = [tuple(round(size * scale) for size in image_size) for scale in scales]
        self.patch_size = tuple(patch_size)
        earlier = [list(scales[:place]).count(scale) for place, scale in enumerate(scales)]  # of the same scale
        self.scale_names = [f"{scale:g}x" + f"_{n + 1}" * (n > 0) for scale, n in zip(scales, earlier, strict=True)]
        per_scale = [1.0] * len(scales) if weights is None else [float(weight) for weight in weights]
        if len(per_scale) != len(scales) or min(per_scale) < 0 or sum(per_scale) == 0:
            raise ValueError(f"need one weight >= 0 per scale, not all 0: got {per_scale} for scales {list(scales)}.")
        if patch_std_floor <= 0:
            raise ValueError(f"patch_std_floor must be positive, got {patch_std_floor}.")
        extras = {"statistics": float(statistics_weight), "gradients": float(gradient_weight)}
        if min(*extras.values(), texture_weight) < 0:
            raise ValueError(
                "statistics_weight, gradient_weight and texture_weight must be 0 or more, got "
                f"{statistics_weight}, {gradient_weight} and {texture_weight}."
            )
        outputs = {"statistics": 2, "gradients": len(gradient_directions(len(self.patch_size)))}
        self.extras = {name: outputs[name] for name, weight in extras.items() if weight}
        self.textures = nn.ModuleList(TextureDescriptors(size) for size in self.sizes if texture_weight)
        terms = {"loss": 1.0, **{f"loss_{name}": extras[name] for name in self.extras}}
        terms |= {"loss_texture": float(texture_weight)} if texture_weight else {}
        self.names = [f"{term}_{scale}" for term in terms for scale in self.scale_names]
        self.weights = [term * weight for term in terms.values() for weight in per_scale]
        self.normalize_targets = normalize_targets
        self.patch_std_floor = patch_std_floor

    @property
    def extra_outputs(self) -> int:
        """How many numbers are predicted for a patch beside its pixels."""
        return sum(self.extras.values())

    @property
    def texture_outputs(self) -> int:
        """How many numbers are predicted of the whole image, at all scales together."""
        return sum(texture.outputs for texture in self.textures)  # type: ignore[misc]

    def targets(self, label: torch.Tensor, places: Sequence[torch.Tensor | None] | None = None) -> list[torch.Tensor]:
        """
        The targets of each scale's patches: their pixels and, behind them, what else is predicted.

        Args:
            label: (B, C, *spatial), the image at the largest scale's size.
            places: per scale, the indices (B, n) of the wanted patches on its grid; None for all.

        Returns:
            (B, N_s, P + extra_outputs) or (B, n, P + extra_outputs) per scale, in float32.
        """
        wanted = [None] * len(self.sizes) if places is None else places
        images = [downsample(label.float(), size) for size in self.sizes]
        return [self._targets(image, chosen) for image, chosen in zip(images, wanted, strict=True)]

    def _targets(self, image: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        """The targets of one scale's image."""
        patches = patchify(image, self.patch_size)
        patches = patches if places is None else pick(patches, places)
        parts = [self.normalize(patches) if self.normalize_targets else patches]
        if "statistics" in self.extras:
            parts.append(statistics_targets(patches, self.patch_std_floor))
        if "gradients" in self.extras:
            parts.append(gradient_targets(image, self.patch_size, self.patch_std_floor, places))
        return torch.cat(parts, dim=-1) if self.extras else parts[0]

    def split(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Split predictions or targets (..., P + extra_outputs) into pixels (..., P) and what else is predicted."""
        return values.split([values.shape[-1] - self.extra_outputs, *self.extras.values()], dim=-1)

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
            (B, S), or with more than pixels (B, T S): of each kind of target, all scales, in the order of `names`.

        Raises:
            ValueError: if a decoder has other outputs than there are targets.
        """
        columns = []
        for prediction, target, mask in zip(
            output["predictions"], self.targets(label, output["places"]), output["masks"], strict=True
        ):
            if prediction.shape != target.shape:
                raise ValueError(
                    f"a decoder predicts {tuple(prediction.shape)}, but the targets are {tuple(target.shape)}: build "
                    f"the network with extra_outputs={self.extra_outputs}."
                )
            parts = zip(self.split(prediction), self.split(target), strict=True)
            columns.append(torch.stack([masked_mean_squared_error(*part, mask) for part in parts], dim=1))
        losses = torch.stack(columns, dim=2).flatten(1)
        return torch.cat((losses, self._texture_errors(output, label)), dim=1) if self.textures else losses

    def _texture_errors(self, output: dict[str, Any], label: torch.Tensor) -> torch.Tensor:
        """(B, S): the mean squared error of each image's texture at each scale."""
        targets = [
            texture(downsample(label.float(), size)) for texture, size in zip(self.textures, self.sizes, strict=True)
        ]
        predictions = output["texture"].float().split([target.shape[1] for target in targets], dim=1)
        errors = [(prediction - target).square() for prediction, target in zip(predictions, targets, strict=True)]
        return torch.stack([error.mean(dim=1) for error in errors], dim=1)

    def measure_textures(self, images: Sequence[torch.Tensor]) -> None:
        """
        Bring the texture's numbers to mean 0 and standard deviation 1 over some images; nothing without texture.

        Args:
            images: (B, C, *spatial) each, at the largest scale's size.
        """
        for texture, size in zip(self.textures, self.sizes, strict=False):
            texture.measure(downsample(image.float(), size) for image in images)  # type: ignore[operator]

    def forward(self, output: dict[str, list[Any]], label: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        The loss of a batch.

        Args:
            output: what :class:`miram.networks.miram.MIRAM` returns.
            label: (B, C, *spatial), the image at the largest scale's size.

        Returns:
            "loss", the weighted sum to minimise, and each scale's unweighted losses by name ("loss_1x", "loss_2x",
            "loss_statistics_1x").
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
