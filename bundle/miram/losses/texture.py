"""The texture of a whole image as numbers, which the encoder can learn to predict beside the hidden patches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from torch import nn

from miram.errors import InputError

# Distances from the image's centre, as shares of half its shorter side, between which values are averaged
_RINGS = (0.0, 0.16, 0.31, 0.5, 0.75, math.inf)
_WIDE_RINGS = (0.0, 0.375, 0.75, math.inf)
_GRADIENT_SIGMAS = (0.7, 1.4, 2.8)  # pixels
_PATTERNS = ((0.0, 1), (0.75, 2), (1.5, 4))  # smoothing, and distance of the neighbours, in pixels
_PATTERN_CODES = 10
_FLOOR = 0.002  # gradient of noise, per pixel, for pixels from -2 to 2


class TextureDescriptors(nn.Module):
    """
    Brightness, gradients and local patterns of an image in rings around its centre: what classical features of masses
    measure, here as targets. They do not change when the image is turned or mirrored.

    In each ring: mean and contrast; at three scales the gradients' strength, and how far they point to the centre
    (margins) or run around it (spicules; Karssemeijer and te Brake, IEEE TMI 15(5), 1996); and at three distances the
    histogram of rotation-invariant uniform local binary patterns (Ojala et al., IEEE TPAMI 24(7), 2002).

    Not in MIRAM's paper. Linear models of these numbers find the pathology and margins of CBIS-DDSM's masses better
    than linear models of the features of any encoder that was pretrained on pixels alone (docs/results.md).

    Args:
        image_size: (H, W) in pixels.

    Raises:
        InputError: if the image is not 2D.
    """

    outward: torch.Tensor
    rings: torch.Tensor
    wide_ring: torch.Tensor
    wide_ring_pixels: torch.Tensor
    codes: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, image_size: Sequence[int]) -> None:
        super().__init__()
        if len(image_size) != 2:
            raise InputError(
                f"texture is described in 2D only, and image_size is {list(image_size)}: set texture_weight to 0"
            )
        rows, columns = (torch.arange(side) + 0.5 - side / 2 for side in image_size)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        distance = torch.hypot(y, x)
        outward = torch.stack((y, x)) / distance.clamp(min=0.5)
        reach = distance.flatten() / (min(image_size) / 2)
        self.register_buffer("outward", outward, persistent=False)
        self.register_buffer("rings", _ring_weights(reach, _RINGS), persistent=False)
        wide = _ring_weights(reach, _WIDE_RINGS)
        self.register_buffer("wide_ring", wide.argmax(dim=1), persistent=False)  # of each pixel
        self.register_buffer("wide_ring_pixels", (wide > 0).sum(dim=0), persistent=False)
        self.register_buffer("codes", _pattern_codes(), persistent=False)
        for sigma in {*_GRADIENT_SIGMAS, *(sigma for sigma, _ in _PATTERNS)} - {0.0}:
            kernel = gaussian_1d(torch.as_tensor(sigma), truncated=3.0, approx="sampled", normalize=True)
            self.register_buffer(_kernel_name(sigma), kernel, persistent=False)
        rings, wide_rings = len(_RINGS) - 1, len(_WIDE_RINGS) - 1
        self.outputs = rings * (2 + 4 * len(_GRADIENT_SIGMAS)) + wide_rings * len(_PATTERNS) * _PATTERN_CODES
        self.register_buffer("mean", torch.zeros(self.outputs), persistent=False)
        self.register_buffer("std", torch.ones(self.outputs), persistent=False)

    @torch.no_grad()
    def measure(self, images: Iterable[torch.Tensor]) -> None:
        """Set the mean and the standard deviation of each number to those over some batches (B, C, H, W)."""
        values = torch.cat([self.describe(batch) for batch in images])
        self.mean, self.std = values.mean(dim=0), values.std(dim=0).clamp(min=1e-3)

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Describe images, standardised as :meth:`measure` has found.

        Args:
            image: (B, C, H, W) of pixels from -2 to 2; channels are averaged.

        Returns:
            (B, outputs) in float32.
        """
        self.to(image.device)  # a loss is not moved with the network
        return (self.describe(image) - self.mean) / self.std

    def describe(self, image: torch.Tensor) -> torch.Tensor:
        """The numbers as they are: (B, C, H, W) to (B, outputs)."""
        gray = image.float().mean(dim=1)
        parts = [self._brightness(gray)]
        parts += [self._gradients(self._smooth(gray, sigma)) for sigma in _GRADIENT_SIGMAS]
        parts += [self._patterns(self._smooth(gray, sigma), distance) for sigma, distance in _PATTERNS]
        return torch.cat(parts, dim=1)

    def _brightness(self, gray: torch.Tensor) -> torch.Tensor:
        mean = gray.flatten(1) @ self.rings
        around = gray.flatten(1) - mean[:, self.rings.argmax(dim=1)]  # of a flat ring exact, also in TF32
        variance = around.square() @ self.rings
        return torch.cat((mean, (variance.sqrt() + 0.01).log()), dim=1)

    def _smooth(self, gray: torch.Tensor, sigma: float) -> torch.Tensor:
        """Smooth images (B, H, W) by a Gaussian; 0 leaves them as they are."""
        if not sigma:
            return gray
        kernel = self.get_buffer(_kernel_name(sigma))
        return separable_filtering(gray[:, None], [kernel, kernel], mode="replicate")[:, 0]

    def _gradients(self, gray: torch.Tensor) -> torch.Tensor:
        """Strength, outward share, and two and four times the angle to the outward direction, weighted by strength."""
        gradient = torch.stack(torch.gradient(gray, dim=(1, 2)), dim=1)
        strength = gradient.square().sum(dim=1).sqrt()
        outward = (gradient * self.outward).sum(dim=1)
        cosine = outward / strength.clamp(min=1e-6)
        twice = 2 * cosine.square() - 1
        pooled = [
            map_.flatten(1) @ self.rings
            for map_ in (strength, outward, strength * twice, strength * (2 * twice.square() - 1))
        ]
        total = pooled[0] + _FLOOR
        return torch.cat((total.log(), *(part / total for part in pooled[1:])), dim=1)

    def _patterns(self, gray: torch.Tensor, distance: int) -> torch.Tensor:
        """The histogram of local binary patterns."""
        pattern = torch.zeros_like(gray, dtype=torch.long)
        for bit in range(8):
            angle = bit * math.pi / 4
            shift = (-round(distance * math.sin(angle)), -round(distance * math.cos(angle)))
            pattern |= (torch.roll(gray, shift, dims=(1, 2)) > gray).long() << bit
        codes = self.codes[pattern].flatten(1)
        place = self.wide_ring * _PATTERN_CODES + codes
        counts = gray.new_zeros(len(gray), len(self.wide_ring_pixels) * _PATTERN_CODES)
        counts.scatter_add_(1, place, torch.ones_like(place, dtype=gray.dtype))
        shares = counts.unflatten(1, (-1, _PATTERN_CODES)) / self.wide_ring_pixels[:, None].clamp(min=1)
        return (shares.flatten(1) + 0.01).sqrt()


def _ring_weights(reach: torch.Tensor, edges: Sequence[float]) -> torch.Tensor:
    """(H W, R): columns that average over the pixels of a ring."""
    inside = torch.stack([(reach >= low) & (reach < high) for low, high in pairwise(edges)], dim=1)
    return inside / inside.sum(dim=0).clamp(min=1)


def _pattern_codes() -> torch.Tensor:
    """The code of each of 256 patterns of neighbours: how many are brighter if they are side by side, else 9."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    changes = (bits != bits.roll(1, dims=1)).sum(dim=1)
    return torch.where(changes <= 2, bits.sum(dim=1), _PATTERN_CODES - 1)


def _kernel_name(sigma: float) -> str:
    return f"gaussian_{sigma:g}".replace(".", "_")
