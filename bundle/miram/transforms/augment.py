"""Mirrored, turned and otherwise distorted images, for whole batches on their device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F

from miram.counter_random import Stream, random_uniform


@dataclass(eq=False)
class RandomFlipRotate90:
    """
    Flip each image along each axis and rotate it by quarter turns, at random.

    Images whose sides differ are flipped only: a quarter turn would swap the sides. The distribution is that of MONAI's
    `RandFlip` along both axes followed by `RandRotate90`. The draws depend only on (seed, epoch, index). They are made
    on the CPU, so that nothing waits for the device.
    """

    seed: int = 0  # another seed gives other draws
    flip_prob: float = 0.5  # probability of a flip along each axis
    rotate_prob: float = 0.5  # probability of a turn by 90, 180 or 270 degrees, which are equally likely

    def __call__(self, image: torch.Tensor, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """
        Augment a batch.

        Args:
            image: (B, C, H, W)
            epoch: the epoch; 0, the epoch of validation, changes nothing.
            index: (B,) the samples' indices in their data set, on the CPU.

        Returns:
            (B, C, H, W)
        """
        if epoch == 0:
            return image
        result = torch.empty_like(image)
        kinds = self._kinds(epoch, index, turn=image.shape[-1] == image.shape[-2])
        for kind in kinds.unique().tolist():
            chosen = (kinds == kind).nonzero()[:, 0].to(image.device, non_blocking=True)
            axes = [axis for bit, axis in enumerate((-2, -1)) if kind & (1 << bit)]
            part = image[chosen]
            result[chosen] = (part.flip(axes) if axes else part).rot90(kind >> 2, (-2, -1))
        return result

    def _kinds(self, epoch: int, index: torch.Tensor, turn: bool) -> torch.Tensor:
        """(B,) two bits for flips and, above them, the number of quarter turns."""
        draws = random_uniform(self.seed, epoch, index, 4, "cpu", Stream.AUGMENTATION)
        flips = (draws[:, :2] < self.flip_prob).long()
        turns = (draws[:, 2] < self.rotate_prob) * (1 + (3 * draws[:, 3]).long())
        return flips[:, 0] + 2 * flips[:, 1] + 4 * turns * turn


def enlarge_corners(image: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """
    Enlarge the first part of each image to its full size, linearly, as `torch.nn.functional.interpolate` would.

    Args:
        image: (B, C, *spatial), floating point.
        sides: (B, spatial dims) pixels of the part, which begins at the first pixel along each axis.

    Returns:
        (B, C, *spatial)
    """
    sizes, axes = image.shape[2:], []
    for axis, size in enumerate(sizes):
        side = sides[:, axis, None].to(image.dtype)
        center = (torch.arange(size, device=image.device) + 0.5) * (side / size) - 0.5
        inside = center.clamp(min=0).minimum(side - 1)  # beyond the last centres the outer pixels go on
        place = ((2 * inside + 1) / size - 1).unflatten(0, (-1, *[1] * axis))  # -1 and 1 are the outer edges
        axes.append(place.unflatten(-1, (-1, *[1] * (len(sizes) - 1 - axis))).expand(-1, *sizes))
    return F.grid_sample(image, torch.stack(axes[::-1], dim=-1), align_corners=False)  # it takes the last axis first


def symmetries(image: torch.Tensor) -> Iterator[torch.Tensor]:
    """
    Give images (B, C, *spatial) as they are, mirrored along one or more axes, and with each of these turned by a
    quarter if they are squares: 8 versions of a square, 4 of another image in 2D, 8 in 3D.
    """
    square = image.ndim == 4 and image.shape[2] == image.shape[3]
    axes = range(2, image.ndim)
    for version in (image, image.transpose(2, 3)) if square else (image,):
        for count in range(len(axes) + 1):
            for axis in combinations(axes, count):
                yield version.flip(axis)


@dataclass(eq=False)
class RandomView:
    """
    A random part of each image, mirrored and enlarged to the full size, with changed contrast, brightness and noise.

    A sample's view depends only on (seed, epoch, index).

    Raises:
        ValueError: if `min_side` is not above 0 and at most 1, or another range is negative.
    """

    seed: int = 0  # another seed gives other views
    min_side: float = 0.5  # smallest side of the part, as a share of the image's; the largest is 1
    contrast_range: float = 0.4  # pixels are multiplied by 1 plus or minus up to this
    brightness_range: float = 0.4  # up to this is added to or subtracted from pixels, in the image's units
    noise_std: float = 0.1  # largest standard deviation of Gaussian noise, in the image's units

    def __post_init__(self) -> None:
        if not 0 < self.min_side <= 1:
            raise ValueError(f"min_side must be above 0 and at most 1, got {self.min_side}.")
        if min(self.contrast_range, self.brightness_range, self.noise_std) < 0:
            raise ValueError("contrast_range, brightness_range and noise_std must not be negative.")

    def __call__(self, image: torch.Tensor, epoch: int, index: torch.Tensor) -> torch.Tensor:
        """
        Make a view of each image.

        Args:
            image: (B, C, *spatial)
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
