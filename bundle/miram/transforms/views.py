"""Distorted views of an image, for methods that compare two views."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from miram.counter_random import Stream, random_uniform


class RandomView:
    """
    A random part of each image, mirrored and enlarged to the full size, with changed contrast, brightness and noise.

    A sample's view depends only on (seed, epoch, index).

    Args:
        seed: another seed gives other views.
        min_side: smallest side of the part, as a share of the image's; the largest is 1.
        contrast_range: pixels are multiplied by 1 plus or minus up to this.
        brightness_range: up to this is added to or subtracted from pixels, in the image's units.
        noise_std: largest standard deviation of Gaussian noise, in the image's units.

    Raises:
        ValueError: if `min_side` is not above 0 and at most 1, or another range is negative.
    """

    def __init__(
        self,
        seed: int = 0,
        min_side: float = 0.5,
        contrast_range: float = 0.4,
        brightness_range: float = 0.4,
        noise_std: float = 0.1,
    ) -> None:
        if not 0 < min_side <= 1:
            raise ValueError(f"min_side must be above 0 and at most 1, got {min_side}.")
        if min(contrast_range, brightness_range, noise_std) < 0:
            raise ValueError("contrast_range, brightness_range and noise_std must not be negative.")
        self.seed = seed
        self.min_side = min_side
        self.contrast_range = contrast_range
        self.brightness_range = brightness_range
        self.noise_std = noise_std

    def __call__(self, image: torch.Tensor, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """
        Make a view of each image.

        Args:
            image: (B, C, *spatial)
            epoch: the epoch.
            index: (B,) the samples' indices in their data set.

        Returns:
            (B, C, *spatial)
        """
        dims = image.ndim - 2
        draws = random_uniform(self.seed, epoch, index, 2 * dims + 5, image.device, Stream.VIEW)
        view = _part(image, draws[:, : 2 * dims + 1], self.min_side)
        contrast, brightness, noise, number = draws[:, 2 * dims + 1 :].T
        shape = (-1, *[1] * (dims + 1))
        view = view * (1 + self.contrast_range * (2 * contrast - 1)).view(shape)
        view = view + (self.brightness_range * (2 * brightness - 1)).view(shape)
        return view + (self.noise_std * noise).view(shape) * _normal(view, number)


def _part(image: torch.Tensor, draws: torch.Tensor, min_side: float) -> torch.Tensor:
    """Crop, mirror and enlarge; `draws` (B, 2 x dims + 1) determine the side, the place and the mirroring."""
    dims = image.ndim - 2
    side = min_side + (1 - min_side) * draws[:, :1]
    place = (1 - side) * (2 * draws[:, 1 : dims + 1] - 1)
    mirror = torch.where(draws[:, dims + 1 :] < 0.5, -1.0, 1.0)
    affine = torch.cat([torch.diag_embed(side * mirror), place[..., None]], dim=-1)  # (B, dims, dims + 1)
    grid = F.affine_grid(affine.to(image.dtype), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _normal(image: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Gaussian noise of the image's shape, determined by a number in [0, 1) per image (Box and Muller 1958)."""
    pixels = image[0].numel()
    sample = (number * 2**24).to(torch.int64)  # all the bits that the number has
    first, second = random_uniform(0, 0, sample, 2 * pixels, image.device).chunk(2, dim=1)
    return ((-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()).view_as(image)
