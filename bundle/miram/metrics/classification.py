"""
Point estimates of classification, from scikit-learn, and the choice of an operating point.

Every function takes the labels (n,) of one class (1, 0 or NaN = unknown) and its scores (n,); unknown labels are left
out. A value that the labels do not define (one class is absent) is NaN.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from sklearn import metrics

from miram.errors import InputError

ThresholdRule = Literal["youden", "specificity", "sensitivity"]


def known(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels (as integers) and scores of the samples whose label is known."""
    mask = ~np.isnan(labels)
    return labels[mask].astype(int), scores[mask]


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half."""
    labels, scores = known(labels, scores)
    return float(metrics.roc_auc_score(labels, scores)) if np.unique(labels).size == 2 else np.nan


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision: the precision at each threshold, weighted by the gain in recall (no interpolation)."""
    labels, scores = known(labels, scores)
    return float(metrics.average_precision_score(labels, scores)) if np.unique(labels).size == 2 else np.nan


def sensitivity_at_specificity(labels: np.ndarray, scores: np.ndarray, specificity: float = 0.9) -> float:
    """The highest sensitivity of any threshold whose specificity is at least `specificity` (no interpolation)."""
    labels, scores = known(labels, scores)
    if np.unique(labels).size < 2:
        return np.nan
    false_positive_rate, sensitivity, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    return float(sensitivity[false_positive_rate <= 1 - specificity + 1e-12].max())


def threshold_metrics(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """
    Sensitivity, specificity, accuracy and balanced accuracy of calling scores >= `threshold` positive.

    Returns:
        the four values by name; NaN where the class that one needs is absent.
    """
    labels, scores = known(labels, scores)
    if not labels.size:
        return dict.fromkeys(("sensitivity", "specificity", "accuracy", "balanced_accuracy"), np.nan)
    called = (scores >= threshold).astype(int)
    sensitivity = float(metrics.recall_score(labels, called, zero_division=np.nan))
    specificity = float(metrics.recall_score(labels, called, pos_label=0, zero_division=np.nan))
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": float(metrics.accuracy_score(labels, called)),
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }


def multiclass_accuracy(one_hot: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """
    Accuracy and balanced accuracy of the most probable class.

    Args:
        one_hot: (n, C) labels, rows of NaN where unknown.
        probabilities: (n, C).

    Returns:
        both values by name; balanced accuracy is NaN if a class is absent.
    """
    mask = ~np.isnan(one_hot).any(axis=1)
    labels, called = one_hot[mask].argmax(axis=1), probabilities[mask].argmax(axis=1)
    complete = np.unique(labels).size == one_hot.shape[1]
    return {
        "accuracy": float(metrics.accuracy_score(labels, called)) if labels.size else np.nan,
        "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, called)) if complete else np.nan,
    }


def confusion_matrix(labels: np.ndarray, called: np.ndarray, n_classes: int = 2) -> np.ndarray:
    """
    Count the pairs of label and call.

    Args:
        labels: (n,) class indices, NaN where unknown (left out).
        called: (n,) class indices.
        n_classes: the number of classes.

    Returns:
        (n_classes, n_classes) integers, rows are labels, columns are calls.
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
            specificity) or "sensitivity" (highest specificity with at least `target` sensitivity). Among equals the
            highest threshold, the most specific one, is taken.
        target: for the last two rules, from 0 to 1.

    Returns:
        one of the scores, or the next number above the highest where nothing is to be called positive.

    Raises:
        InputError: if a class is absent, or rule and target do not fit.
    """
    labels, scores = known(labels, scores)
    if np.unique(labels).size < 2:
        raise InputError("a threshold cannot be chosen where only one class is labelled; use more validation data")
    if rule not in get_args(ThresholdRule):
        raise InputError(f"the threshold rule is {rule!r}; use one of {', '.join(get_args(ThresholdRule))}")
    if rule != "youden" and (target is None or not 0 <= target <= 1):
        raise InputError(f"the threshold rule {rule!r} needs a target from 0 to 1, not {target!r}")
    false_positive_rate, sensitivity, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    gain = _gain(1 - false_positive_rate, sensitivity, rule, target or 0.0)
    chosen = thresholds[np.argmax(gain)]
    return float(chosen) if np.isfinite(chosen) else float(np.nextafter(scores.max(), np.inf))


def _gain(specificity: np.ndarray, sensitivity: np.ndarray, rule: str, target: float) -> np.ndarray:
    """What the rule maximises; -inf where its target is missed (by more than rounding)."""
    if rule == "youden":
        return sensitivity + specificity
    held, wanted = (specificity, sensitivity) if rule == "specificity" else (sensitivity, specificity)
    return np.where(held >= target - 1e-12, wanted, -np.inf)
