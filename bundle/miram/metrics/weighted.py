"""
Metrics for many weightings of the same samples at once, as a bootstrap needs them.

A point estimate is one weighting in which each sample counts once.

`weights` is (R, n): how often each of the n samples counts in each of R resamples. Scores are sorted once; a resample
is then a cumulative sum. Each function returns (R,) values, equal to scikit-learn's with `sample_weight`, and NaN for
resamples in which it is undefined (a class is absent). Labels are 1 or 0; unknown ones must be removed before.
"""

from __future__ import annotations

import numpy as np


def curve_counts(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    True and false positives at each distinct score, from the highest to the lowest.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,).
        weights: (R, n).

    Returns:
        true positives and false positives, (R, K) each for K distinct scores; the last column holds the totals. Without
        samples there is only that column, with zeros.
    """
    if not scores.size:
        return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    sorted_weights = weights[:, order]
    positives = np.cumsum(sorted_weights * labels[order], axis=1)[:, last_of_tie]
    negatives = np.cumsum(sorted_weights * (1 - labels[order]), axis=1)[:, last_of_tie]
    return positives, negatives


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient, NaN where the denominator is 0."""
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def roc_auc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Area under the ROC curve from :func:`curve_counts`, by trapezoids (ties count one half)."""
    steps = np.diff(negatives, axis=1, prepend=0)
    doubled_heights = positives.copy()
    doubled_heights[:, 1:] += positives[:, :-1]
    area = np.einsum("rk,rk->r", steps, doubled_heights) / 2
    return ratio(area, positives[:, -1] * negatives[:, -1])


def average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Average precision from :func:`curve_counts`; like the AUC, undefined if either class is absent."""
    called = positives + negatives
    precision = np.divide(positives, called, out=np.zeros_like(called), where=called > 0)
    gained = np.einsum("rk,rk->r", np.diff(positives, axis=1, prepend=0), precision)
    return np.where(negatives[:, -1] > 0, ratio(gained, positives[:, -1]), np.nan)


def sensitivity_at_specificity(positives: np.ndarray, negatives: np.ndarray, specificity: float) -> np.ndarray:
    """The highest sensitivity of any threshold with at least `specificity`, from :func:`curve_counts`."""
    allowed = (1 - specificity + 1e-12) * negatives[:, -1:]
    best = np.where(negatives <= allowed, positives, 0).max(axis=1)
    return np.where(negatives[:, -1] > 0, ratio(best, positives[:, -1]), np.nan)


def threshold_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Sensitivity, specificity, accuracy, balanced accuracy, (R,) each, of calling scores >= `threshold` positive."""
    called = scores >= threshold
    columns = np.stack([labels * called, labels, (1 - labels) * ~called, 1 - labels], axis=1)
    true_positives, positives, true_negatives, negatives = (weights @ columns).T
    sensitivity, specificity = ratio(true_positives, positives), ratio(true_negatives, negatives)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": ratio(true_positives + true_negatives, positives + negatives),
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }


def multiclass_accuracy(one_hot: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy and balanced accuracy, (R,) each, of the most probable class; `one_hot` and `probabilities` (n, C)."""
    right = (one_hot.argmax(axis=1) == probabilities.argmax(axis=1))[:, None]
    total, correct = weights @ one_hot, weights @ (one_hot * right)
    return {
        "accuracy": ratio(correct.sum(axis=1), total.sum(axis=1)),
        "balanced_accuracy": ratio(correct, total).mean(axis=1),
    }


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of `values` (n,), for example of each sample's squared error: (R,)."""
    return ratio(weights @ values, weights.sum(axis=1))
