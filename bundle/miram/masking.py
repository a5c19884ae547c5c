"""
Which patches the encoder sees.

Masks are drawn outside the network, from (seed, epoch, sample) alone. In a given epoch a sample gets the same mask on
any batch, process, worker or device, and after a restart. There is no generator state to save.
"""

from __future__ import annotations

import torch

from miram.counter_random import random_bits
from miram.errors import InputError


class RandomMasking:
    """
    Hide a fixed share of the patches, chosen uniformly at random (MAE, arXiv 2111.06377, section 3).

    Args:
        ratio: share of the patches that the encoder does not see; 0.75 is MAE's.
        seed: another seed gives other masks.
        views: how many times a step shows each image. No patch is visible in two of these views (disjoint masking,
            DMJD, arXiv 2301.00230).

    Raises:
        InputError: if `ratio` is not above 0 and below 1, or `views` is less than 1.
    """

    def __init__(self, ratio: float = 0.75, seed: int = 0, views: int = 1) -> None:
        if not 0 < ratio < 1:
            raise InputError(f"mask_ratio must be greater than 0 and less than 1, got {ratio}")
        if views < 1:
            raise InputError(f"mask_views must be at least 1, got {views}")
        self.ratio = ratio
        self.seed = seed
        self.views = views

    def num_visible(self, num_tokens: int) -> int:
        """
        How many of `num_tokens` patches stay visible, the same number in every image.

        Raises:
            InputError: if all or none of them would be visible, or there are too few for all views.
        """
        visible = num_tokens - round(self.ratio * num_tokens)
        if not 0 < visible < num_tokens:
            raise InputError(f"mask_ratio {self.ratio} leaves {visible} of {num_tokens} patches visible")
        if self.views * visible > num_tokens:
            raise InputError(
                f"{self.views} views (mask_views) of {visible} visible patches each need more than the image's "
                f"{num_tokens} patches, since none is visible twice; use fewer views or a higher mask_ratio"
            )
        return visible

    def __call__(
        self, epoch: int, index: torch.Tensor, num_tokens: int, device: torch.device | str | None = None
    ) -> torch.Tensor:
        """
        Draw the masks of a batch.

        Args:
            epoch: the epoch; validation passes a constant, so that its masks are fixed.
            index: (B,) integer indices of the samples in their data set.
            num_tokens: patches of an image, N.
            device: device of the result; by default that of `index`.

        Returns:
            (B, V) int64: the visible patches of each image in ascending order; with several views (views B, V), all
            images of the first view before those of the second.
        """
        score = random_bits(self.seed, epoch, index, num_tokens, device)
        visible = score.argsort(dim=1)[:, : self.views * self.num_visible(num_tokens)]
        return torch.cat([view.sort(dim=1).values for view in visible.chunk(self.views, dim=1)])


def hidden_mask(keep: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """
    The patches that are not kept.

    Args:
        keep: (B, V) indices of the visible patches.
        num_tokens: patches of an image, N.

    Returns:
        (B, N) bool, True where a patch is hidden.
    """
    mask = torch.ones(keep.shape[0], num_tokens, dtype=torch.bool, device=keep.device)
    return mask.scatter(1, keep, False)
