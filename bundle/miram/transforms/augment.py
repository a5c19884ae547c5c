"""The augmentation of pretraining, for whole batches on their device."""

from __future__ import annotations

import torch

from miram.counter_random import Stream, random_uniform


class RandomFlipRotate90:
    """
    Flip each image along each axis and rotate it by quarter turns, at random.

    Images whose sides differ are flipped only: a quarter turn would swap the sides. The distribution is that of MONAI's
    `RandFlip` along both axes followed by `RandRotate90`. The draws depend only on (seed, epoch, index). They are made
    on the CPU, so that nothing waits for the device.

    Args:
        seed: another seed gives other draws.
        flip_prob: probability of a flip along each axis.
        rotate_prob: probability of a turn by 90, 180 or 270 degrees, which are equally likely.
    """

    def __init__(self, seed: int = 0, flip_prob: float = 0.5, rotate_prob: float = 0.5) -> None:
        self.seed = seed
        self.flip_prob = flip_prob
        self.rotate_prob = rotate_prob

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
