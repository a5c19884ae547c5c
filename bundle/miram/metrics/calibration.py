"""
Calibration: does a probability of 0.7 come true 7 times in 10?

In binary and multi-label tasks the confidence of a sample is its probability of the class and the outcome is its label;
in multi-class tasks they are the highest probability and whether that class is right (:func:`top_label`).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from miram.errors import InputError
from miram.metrics.weighted import ratio

Binning = Literal["equal_width", "equal_mass"]
Activation = Literal["sigmoid", "softmax"]


def top_label(one_hot: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest probability of each row (n, C), and 1 if its class is the labelled one, otherwise 0."""
    right = one_hot.argmax(axis=1) == probabilities.argmax(axis=1)
    return probabilities.max(axis=1), right.astype(float)


def bin_index(confidence: np.ndarray, n_bins: int = 10, binning: Binning = "equal_width") -> np.ndarray:
    """
    The bin, from 0, of each confidence; a value on an edge belongs to the lower bin, as in scikit-learn.

    Args:
        confidence: (n,) from 0 to 1.
        binning: "equal_width" (0 to 1 divided evenly) or "equal_mass" (equal numbers of samples, except for ties).
    """
    if n_bins < 1 or binning not in get_args(Binning):
        raise InputError(f"n_bins is {n_bins}, binning {binning!r}; use at least 1 and one of {get_args(Binning)}")
    inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = inner if binning == "equal_width" or not confidence.size else np.quantile(confidence, inner)
    return np.searchsorted(edges, confidence)


def expected_calibration_error(
    confidence: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None = None,
    n_bins: int = 10,
    binning: Binning = "equal_width",
) -> np.ndarray:
    """
    Mean difference between confidence and frequency over bins, weighted by the samples in each (Guo et al. 2017).

    Args:
        confidence: (n,) from 0 to 1.
        outcome: (n,) 1 or 0.
        weights: (R, n) weightings of the samples; None counts each sample once. The bins are those of the unweighted
            samples.

    Returns:
        (R,) values from 0 to 1; NaN if there are no samples.
    """
    weights = np.ones((1, confidence.size)) if weights is None else weights
    in_bin = bin_index(confidence, n_bins, binning)[:, None] == np.arange(n_bins)
    gaps = weights @ (in_bin * (confidence - outcome)[:, None])
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def squared_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """
    Each sample's term of the Brier score, which is their mean.

    Args:
        labels: (n,) 1 or 0, or (n, C) one-hot.

    Returns:
        (n,) from 0 to 1 for binary, from 0 to 2 for multi-class (summed over classes, as in Brier 1950).
    """
    squared = (labels - probabilities) ** 2
    return squared if squared.ndim == 1 else squared.sum(axis=1)


def reliability_curve(
    confidence: np.ndarray, outcome: np.ndarray, n_bins: int = 10, binning: Binning = "equal_width"
) -> pd.DataFrame:
    """The reliability diagram's data: `confidence` (mean), `frequency` and `count` of each bin that holds samples."""
    frame = pd.DataFrame({"confidence": confidence, "frequency": outcome})
    groups = frame.groupby(bin_index(confidence, n_bins, binning))
    return groups.mean().assign(count=groups.size()).rename_axis("bin").reset_index()


def fit_scaling(
    logits: np.ndarray,
    labels: np.ndarray,
    activation: Activation,
    scale: np.ndarray | float = 1.0,
    bias: np.ndarray | float = 0.0,
    deviations: tuple[float, float] = (1.0, 2.0),
) -> tuple[np.ndarray, np.ndarray]:
    """
    Scale and bias that calibrate logits, fitted on validation data by penalised maximum likelihood.

    A class with a sigmoid has its own scale and bias (Platt 1999). Classes that share a softmax share the scale and
    have one bias each (vector scaling with one temperature, Guo et al. 2017). The bias corrects a shift of the prior,
    which class weights and balanced sampling cause and a temperature alone cannot correct. The penalty is that of a
    normal distribution around the given values; it dominates if few labels are known, and fades with many. So the fit
    is finite even if all predictions are correct, or no better than chance.

    Args:
        logits: (n, K).
        labels: the same shape, 1 or 0 (one-hot for softmax), NaN where unknown (left out).
        activation: "sigmoid" (binary, multi-label) or "softmax" (multi-class).
        scale: (K,) or one number, positive: the expected scale, kept if no label is known.
        bias: the same for the bias.
        deviations: standard deviations, from the expected values, of the logarithm of the scale and of the bias.

    Returns:
        scale and bias, (K,) each: logits * scale + bias are calibrated logits.

    Raises:
        InputError: if the shapes differ, or a logit is not finite.
    """
    if activation not in get_args(Activation):
        raise InputError(f"activation is {activation!r}; use one of {', '.join(get_args(Activation))}")
    if logits.shape != labels.shape or not np.isfinite(logits).all():
        raise InputError(
            f"logits {logits.shape} and labels {labels.shape} must have the same shape, and logits must be finite"
        )
    scale, bias = (np.broadcast_to(np.asarray(value, float), logits.shape[1:]) for value in (scale, bias))
    together = [range(logits.shape[1])] if activation == "softmax" else [[k] for k in range(logits.shape[1])]
    fitted = [
        _fit_jointly(scale[k] * logits[:, k] + bias[k], labels[:, k], activation, deviations)
        for k in map(list, together)
    ]
    factor = np.concatenate([np.full(len(shift), factor) for factor, shift in fitted])
    return scale * factor, bias * factor + np.concatenate([shift for _, shift in fitted])


def _fit_jointly(
    logits: np.ndarray, labels: np.ndarray, activation: Activation, deviations: tuple[float, float]
) -> tuple[float, np.ndarray]:
    """One factor (expected to be 1) and K offsets (expected to be 0) for logits (n, K)."""
    known = ~np.isnan(labels).any(axis=1)
    logits, labels = logits[known], labels[known]

    def objective(values: np.ndarray) -> float:
        calibrated = logits * np.exp(values[0]) + values[1:]
        normaliser = np.logaddexp(0, calibrated) if activation == "sigmoid" else logsumexp(calibrated, axis=1)
        likelihood = (labels * calibrated).sum() - normaliser.sum()
        return float((values[0] / deviations[0]) ** 2 / 2 + ((values[1:] / deviations[1]) ** 2).sum() / 2 - likelihood)

    found = minimize(objective, np.zeros(1 + logits.shape[1]), method="BFGS").x
    return float(np.exp(found[0])), found[1:]
