"""An image and its mirror images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch


def mirror_images(image: torch.Tensor) -> Iterator[torch.Tensor]:
    """Give images (B, C, *spatial) as they are, and mirrored along one or more axes: 4 versions in 2D, 8 in 3D."""
    axes = range(2, image.ndim)
    for count in range(len(axes) + 1):
        for axis in combinations(axes, count):
            yield image.flip(axis)
