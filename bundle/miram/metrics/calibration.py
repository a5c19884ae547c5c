"""
Calibration: does a probability of 0.7 come true 7 times in 10?

In binary and multi-label tasks the confidence of a sample is its probability of the class and the outcome is its label;
in multi-class tasks they are the highest probability and whether that class is right (:func:`top_label`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from miram.errors import InputError

Binning = Literal["equal_width", "equal_mass"]
Activation = Literal["sigmoid", "softmax"]


def top_label(one_hot: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest of each row's probabilities (n, C), and 1 or 0 for whether its class is the labelled one."""
    right = one_hot.argmax(axis=1) == probabilities.argmax(axis=1)
    return probabilities.max(axis=1), right.astype(float)


def bin_index(confidence: np.ndarray, n_bins: int = 10, binning: Binning = "equal_width") -> np.ndarray:
    """
    The bin, from 0, of each confidence; a value on an edge belongs to the lower bin, as in scikit-learn.

    Args:
        confidence: (n,) from 0 to 1.
        n_bins: how many bins.
        binning: "equal_width" (0 to 1 cut evenly) or "equal_mass" (as many samples in each, ties apart).
    """
    if n_bins < 1 or binning not in get_args(Binning):
        raise InputError(f"n_bins is {n_bins}, binning {binning!r}; use at least 1 and one of {get_args(Binning)}")
    inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = inner if binning == "equal_width" else np.quantile(confidence, inner)
    return np.searchsorted(edges, confidence)


def expected_calibration_error(
    confidence: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None = None,
    n_bins: int = 10,
    binning: Binning = "equal_width",
) -> np.ndarray:
    """
    Mean distance of confidence and frequency over bins, weighted by the samples in each (Guo et al. 2017).

    Args:
        confidence: (n,) from 0 to 1.
        outcome: (n,) 1 or 0.
        weights: (R, n) weightings of the samples; None: one in which each counts once. The bins are those of the
            unweighted samples.
        n_bins: how many bins.
        binning: "equal_width" or "equal_mass".

    Returns:
        (R,) values from 0 to 1.
    """
    weights = np.ones((1, confidence.size)) if weights is None else weights
    in_bin = bin_index(confidence, n_bins, binning)[:, None] == np.arange(n_bins)
    gaps = weights @ (in_bin * (confidence - outcome)[:, None])
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


def squared_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """
    Each sample's term of the Brier score, which is their mean.

    Args:
        labels: (n,) 1 or 0, or (n, C) one-hot.
        probabilities: the same shape.

    Returns:
        (n,) from 0 to 1 for binary, from 0 to 2 for multi-class (summed over classes, as Brier 1950 has it).
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


def fit_temperature(
    logits: np.ndarray,
    labels: np.ndarray,
    activation: Activation,
    bounds: tuple[float, float] = (0.01, 100.0),
) -> float:
    """
    The temperature by which to divide logits, fitted on validation data by maximum likelihood (Guo et al. 2017).

    Args:
        logits: (n,) or (n, C).
        labels: the same shape, 1 or 0 (one-hot for softmax), NaN where unknown (left out).
        activation: "sigmoid" (binary, multi-label) or "softmax" (multi-class).
        bounds: where to search.

    Returns:
        the temperature; above 1 the logits were over-confident.

    Raises:
        InputError: if no label is known, a logit is not finite, or the best temperature is at a bound.
    """
    _check_activation(activation)
    if logits.shape != labels.shape or not np.isfinite(logits).all():
        raise InputError(f"logits {logits.shape} and labels {labels.shape} must have one shape, and logits be finite")
    if np.isnan(labels).all():
        raise InputError("a temperature cannot be fitted: no validation label is known")
    low, high = np.log(bounds)
    objective = _negative_log_likelihood(logits, labels, activation)
    found = minimize_scalar(objective, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x
    if min(found - low, high - found) < 1e-3:
        raise InputError(
            f"a temperature cannot be fitted: the best is at the bound {np.exp(found):.3g}, which happens when the "
            "validation predictions are all right or no better than chance; use more validation data or no temperature"
        )
    return float(np.exp(found))


def apply_temperature(logits: np.ndarray, temperature: float, activation: Activation) -> np.ndarray:
    """Probabilities of logits (n,) or (n, C): the sigmoid, or the softmax over C, of logits / temperature."""
    _check_activation(activation)
    scaled = logits / temperature
    return softmax(scaled, axis=-1) if activation == "softmax" else expit(scaled)


def _check_activation(activation: str) -> None:
    if activation not in get_args(Activation):
        raise InputError(f"activation is {activation!r}; use one of {', '.join(get_args(Activation))}")


def _negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, activation: Activation
) -> Callable[[float], float]:
    """The function of log temperature to minimise: the mean over known labels, smooth and with a single minimum."""
    known = ~np.isnan(labels)
    targets = np.where(known, labels, 0)

    def softmax_loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(logits * np.exp(-log_temperature), axis=-1)).sum() / targets.sum())

    def sigmoid_loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        log_likelihood = targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)
        return -float(log_likelihood[known].mean())

    return softmax_loss if activation == "softmax" else sigmoid_loss
