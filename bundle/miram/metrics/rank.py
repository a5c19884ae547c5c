"""How many dimensions a representation uses."""

from __future__ import annotations

import numpy as np
from scipy.stats import entropy


def effective_rank(features: np.ndarray) -> float:
    """
    RankMe (Garrido et al. 2023, arXiv 2210.02885): the exponential of the entropy of the normalised singular values.

    It needs no labels; 1 means that all features are multiples of one vector (collapse). MONAI's
    `EmbeddingCollapseMetric` subtracts the mean feature first, and so measures something else: it returns 0 then.

    Args:
        features: (N, D) of N images, as the encoder returns them.

    Returns:
        from 1 to min(N, D); 0 if all features are 0.
    """
    singular_values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    return float(np.exp(entropy(singular_values))) if singular_values.any() else 0.0
