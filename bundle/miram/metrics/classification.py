"""
Metrics of one class without a bootstrap, the confusion matrix, and the choice of an operating point.

Every function takes the labels (n,) of one class (1, 0 or NaN = unknown) and its scores (n,); unknown labels are left
out. An undefined value (one class is absent) is NaN. The metrics are those of :mod:`miram.metrics.weighted`, with each
sample counted once.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from sklearn import metrics
from sklearn.neighbors import KNeighborsRegressor

from miram.errors import InputError
from miram.metrics import weighted

ThresholdRule = Literal["youden", "specificity", "sensitivity"]


def better_sign(metric: str) -> int:
    """1 if a higher value of a validation metric ("val_auc") is better, -1 if a lower one is ("val_loss")."""
    return -1 if metric == "val_loss" else 1


def known(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels (as integers) and scores of the samples whose label is known."""
    mask = ~np.isnan(labels)
    return labels[mask].astype(int), scores[mask]


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half."""
    return float(weighted.roc_auc(*_curve_counts(labels, scores))[0])


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision: the precision at each threshold, weighted by the gain in recall (no interpolation)."""
    return float(weighted.average_precision(*_curve_counts(labels, scores))[0])


def _curve_counts(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at each distinct known score, (1, K) each."""
    labels, scores = known(labels, scores)
    return weighted.curve_counts(labels, scores, np.ones((1, labels.size)))


def confusion_matrix(labels: np.ndarray, called: np.ndarray, n_classes: int = 2) -> np.ndarray:
    """
    Count the pairs of label and predicted class.

    Args:
        labels: (n,) class indices, NaN where unknown (left out).
        called: (n,) predicted class indices.

    Returns:
        (n_classes, n_classes) integers, rows are labels, columns are predictions.
    """
    labels, called = known(labels, called)
    if not labels.size:
        return np.zeros((n_classes, n_classes), dtype=int)
    return metrics.confusion_matrix(labels, called, labels=np.arange(n_classes))


def choose_threshold(
    labels: np.ndarray, scores: np.ndarray, rule: ThresholdRule = "youden", target: float | None = None
) -> float:
    """
    Choose an operating point, on validation data: scores >= the threshold are called positive.

    Args:
        labels: (n,) 1, 0 or NaN.
        scores: (n,).
        rule: "youden" (highest sensitivity + specificity), "specificity" (highest sensitivity with at least `target`
            specificity) or "sensitivity" (highest specificity with at least `target` sensitivity). Ties are resolved by
            the highest threshold, which is the most specific.
        target: for the last two rules, from 0 to 1.

    Returns:
        one of the scores, or the next number above the highest if nothing should be called positive.

    Raises:
        InputError: if a class is absent, or the rule or its target is invalid.
    """
    labels, scores = known(labels, scores)
    if np.unique(labels).size < 2:
        raise InputError("a threshold cannot be chosen if only one class is labelled; use more validation data")
    if rule not in get_args(ThresholdRule):
        raise InputError(f"the threshold rule is {rule!r}; use one of {', '.join(get_args(ThresholdRule))}")
    if rule != "youden" and (target is None or not 0 <= target <= 1):
        raise InputError(f"the threshold rule {rule!r} needs a target from 0 to 1, not {target!r}")
    thresholds = np.append(np.nextafter(scores.max(), np.inf), np.unique(scores)[::-1])
    positives, negatives = (np.append(0, counts[0]) for counts in _curve_counts(labels, scores))
    gain = _gain(1 - negatives / negatives[-1], positives / positives[-1], rule, target or 0.0)
    return float(thresholds[np.argmax(gain)])


def _gain(specificity: np.ndarray, sensitivity: np.ndarray, rule: str, target: float) -> np.ndarray:
    """The quantity that the rule maximises; -inf where its target is missed (by more than rounding)."""
    if rule == "youden":
        return sensitivity + specificity
    held, wanted = (specificity, sensitivity) if rule == "specificity" else (sensitivity, specificity)
    return np.where(held >= target - 1e-12, wanted, -np.inf)


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
    """ "knn_auc" and "knn_ap" of held-out images, means over the classes that define them; NaN if none does."""
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
