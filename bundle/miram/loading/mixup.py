"""Mixtures of two samples, which depend only on (seed, epoch, sample)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.transforms import Compose

from miram.loading.seeded import SeededDataset


class MixupDataset(SeededDataset):
    """
    Mix each sample with another one, both images and targets (mixup, Zhang et al., arXiv 1710.09412).

    Partner and share follow from (seed, epoch, index), so they do not depend on batches, processes or restarts.

    Args:
        data: items, dictionaries with "image" and "label".
        alpha: parameter of the beta distribution of the share; 0 does not mix.
        options: of :class:`miram.loading.seeded.SeededDataset`.

    Raises:
        ValueError: if `alpha` is negative.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Compose, alpha: float = 0.0, **options: Any) -> None:
        if alpha < 0:
            raise ValueError(f"mixup alpha must be 0 (no mixing) or more, got {alpha}.")
        self.alpha = alpha
        super().__init__(data, transform, **options)

    def __getitem__(self, key: Any) -> Any:
        """Load, transform and mix a sample; `key` is that of :class:`miram.loading.seeded.SeededDataset`."""
        sample = super().__getitem__(key)
        if self.alpha == 0:
            return sample
        # a separate stream from that of the augmentation
        key = key if isinstance(key, tuple) else (0, key)
        random = np.random.default_rng((self.seed, *key, 1))
        share = random.beta(self.alpha, self.alpha)
        other = super().__getitem__((sample["epoch"], int(random.integers(len(self)))))
        mixed = {name: share * sample[name] + (1 - share) * other[name] for name in ("image", "label")}
        return {**sample, **mixed}
