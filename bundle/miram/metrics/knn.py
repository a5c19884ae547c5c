"""How often neighbours in a representation share their labels: a probe without training."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsRegressor

from miram.errors import InputError
from miram.metrics.classification import average_precision, roc_auc


def knn_probabilities(
    features: np.ndarray, targets: np.ndarray, queries: np.ndarray, neighbors: int = 20
) -> np.ndarray:
    """
    The share of each class among the nearest neighbours by cosine distance, weighted by 1 / distance.

    Args:
        features: (N, D) of the training images.
        targets: (N, K) 1, 0 or NaN; images with an unknown label are not used as neighbours.
        queries: (M, D) of other images.
        neighbors: how many; all of them if there are fewer.

    Returns:
        (M, K), from 0 to 1; in a multi-class task each row sums to 1.

    Raises:
        InputError: if no training image has a known label.
    """
    known = ~np.isnan(targets).any(axis=1)
    if not known.any():
        raise InputError("the k-NN probe needs a training image with a known label; choose another task")
    regressor = KNeighborsRegressor(min(neighbors, int(known.sum())), weights="distance", metric="cosine")
    predicted = regressor.fit(features[known], targets[known]).predict(queries)
    return np.clip(predicted.reshape(len(queries), targets.shape[1]), 0, 1)


def knn_scores(
    features: np.ndarray,
    targets: np.ndarray,
    held_out_features: np.ndarray,
    held_out_targets: np.ndarray,
    neighbors: int = 20,
) -> dict[str, float]:
    """
    The k-NN probe on held-out images.

    Args:
        features: (N, D) of the training images.
        targets: (N, K) 1, 0 or NaN.
        held_out_features: (M, D).
        held_out_targets: (M, K) 1, 0 or NaN.
        neighbors: how many.

    Returns:
        "knn_auc" and "knn_ap", means over the classes for which the held-out images define them; NaN if none.
    """
    predicted = knn_probabilities(features, targets, held_out_features, neighbors)
    columns = range(targets.shape[1])
    scores = {"knn_auc": roc_auc, "knn_ap": average_precision}
    return {
        name: mean_over_classes([score(held_out_targets[:, k], predicted[:, k]) for k in columns])
        for name, score in scores.items()
    }


def mean_over_classes(values: list[float]) -> float:
    """The mean of the values that are defined; NaN if none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
