"""ROC and precision-recall curves with pointwise bands over patients, for plots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from miram.metrics.bootstrap import Bootstrap, evaluate_blocks, patient_weights
from miram.metrics.weighted import curve_counts

Reader = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def roc_band(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """
    The ROC curve, with the interval of the sensitivity at each of 101 false-positive rates.

    Args:
        labels: (n,) 1, 0 or NaN (left out).
        scores: (n,).
        patients: (n,) the patient of each image.
        bootstrap: resamples, seed and confidence; None uses the defaults.

    Returns:
        `false_positive_rate`, `sensitivity`, `low`, `high`; empty if a class is absent.
    """
    return _band(
        labels, scores, patients, bootstrap or Bootstrap(), _sensitivity, ("false_positive_rate", "sensitivity")
    )


def precision_recall_band(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """
    The precision-recall curve, with the interval of the precision at each recall; arguments as for :func:`roc_band`.

    Returns:
        `recall`, `precision` (at the highest threshold that reaches the recall), `low`, `high`.
    """
    return _band(labels, scores, patients, bootstrap or Bootstrap(), _precision, ("recall", "precision"))


def _band(
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray,
    bootstrap: Bootstrap,
    read: Reader,
    axes: tuple[str, str],
) -> pd.DataFrame:
    known = ~np.isnan(labels)
    labels, scores, patients = labels[known], scores[known], patients[known]
    if np.unique(labels).size < 2:
        return pd.DataFrame(columns=[*axes, "low", "high"], dtype=float)
    grid = np.linspace(0, 1, 101)

    def curves(weights: np.ndarray) -> dict[str, np.ndarray]:
        pairs = zip(*curve_counts(labels, scores, weights), strict=True)
        usable = [(tp, fp) for tp, fp in pairs if tp[-1] > 0 and fp[-1] > 0]
        return {"y": np.array([read(tp, fp, grid) for tp, fp in usable]).reshape(-1, len(grid))}

    curve = curves(np.ones((1, labels.size)))["y"][0]
    drawn = evaluate_blocks(curves, patient_weights(patients, bootstrap))["y"]
    tails = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(drawn, [tails, 1 - tails], axis=0) if len(drawn) else np.full((2, len(grid)), np.nan)
    return pd.DataFrame({axes[0]: grid, axes[1]: curve, "low": low, "high": high})


def _sensitivity(true_positives: np.ndarray, false_positives: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Sensitivity at false-positive rates: linear between thresholds, and the upper end of a vertical step."""
    rates = np.append(0, false_positives) / false_positives[-1]
    return np.interp(grid, rates, np.append(0, true_positives) / true_positives[-1])


def _precision(true_positives: np.ndarray, false_positives: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Precision at the highest threshold whose recall is at least that of the grid, and above 0."""
    reached = np.searchsorted(true_positives, np.maximum(grid * true_positives[-1] - 1e-9, 1e-9))
    return true_positives[reached] / (true_positives[reached] + false_positives[reached])
