"""
Intervals by resampling patients (Efron and Tibshirani 1993): all images of a patient stay together.

A resample is a weight per image: how often its patient was drawn. Metrics are computed for blocks of resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from scipy.stats import norm

from miram.errors import InputError

Key = TypeVar("Key", bound=Hashable)
Method = Literal["percentile", "basic", "bca"]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    n_resamples: int = 2000  # how many times the patients are drawn
    seed: int = 0  # for the resamples; with the same seed and patients, all metrics and sets use the same weights
    confidence: float = 0.95  # of the interval, from 0 to 1
    # "percentile", "basic" (the percentile interval reflected at the value) or "bca" (bias-corrected and accelerated,
    # Efron 1987; the acceleration from leaving out one patient at a time). For an AUC of 0.92 and 25 of 75 patients
    # positive, percentile covered the truth in 90 % and bca in 93.5 % of 600 simulated sets.
    method: Method = "percentile"
    min_patients: int = 10  # with fewer patients in a class that a metric needs, there is no interval
    max_unusable: float = 0.05  # largest share of resamples that may lack a class; above it there is no interval
    max_values: int = 4_000_000  # memory limit: the largest number of weights (images x resamples) held at once

    def __post_init__(self) -> None:
        if self.n_resamples < 1 or not 0 < self.confidence < 1 or self.method not in get_args(Method):
            raise InputError(
                f"n_resamples {self.n_resamples}, confidence {self.confidence}, method {self.method!r}: use at least 1 "
                f"resample, a confidence between 0 and 1 and one of the methods {', '.join(get_args(Method))}"
            )


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, or the reason why there is none."""

    value: float | None  # the metric on all samples; None if it is undefined for the labels
    low: float | None  # lower end of the interval, or None
    high: float | None  # upper end of the interval, or None
    n_units: int  # the images, lesions or patients (by level) with a known label
    n_patients: int  # the number of patients with them
    n_resamples: int  # resamples on which the interval is based
    n_dropped: int  # resamples that were dropped because they lacked a class
    reason: str | None = None  # why the value or the interval is None


def estimate_text(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """The text of an estimate, given as a dictionary: "0.812 [0.701, 0.893]", the value alone, or "undefined"."""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "undefined"
    return f"{value:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


@dataclass(frozen=True)
class Support:
    """What a metric is based on: its units and patients, and the number of patients in each group that it needs."""

    n_units: int
    n_patients: int
    groups: Mapping[str, int]


def patient_weights(patients: np.ndarray, options: Bootstrap) -> Iterator[np.ndarray]:
    """
    Repeatedly draw as many patients as there are, with replacement.

    Args:
        patients: (n,) the patient of each image.

    Yields:
        (R, n) blocks: how often each image's patient was drawn.
    """
    names, codes = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(options.seed)
    block = max(1, options.max_values // codes.size)
    for start in range(0, options.n_resamples, block):
        rows = min(block, options.n_resamples - start)
        drawn = rng.integers(names.size, size=(rows, names.size)) + np.arange(rows)[:, None] * names.size
        counts = np.bincount(drawn.ravel(), minlength=rows * names.size).reshape(rows, names.size)
        yield counts.astype(float)[:, codes]


def leave_one_out_weights(patients: np.ndarray, options: Bootstrap) -> Iterator[np.ndarray]:
    """Blocks (R, n) of weights: for each patient in turn, 0 for that patient's images and 1 for all others."""
    names, codes = np.unique(patients, return_inverse=True)
    block = max(1, options.max_values // codes.size)
    for start in range(0, names.size, block):
        left_out = np.arange(start, min(start + block, names.size))
        yield (codes != left_out[:, None]).astype(float)


def evaluate_blocks(
    statistics: Callable[[np.ndarray], Mapping[Key, np.ndarray]], blocks: Iterator[np.ndarray]
) -> dict[Key, np.ndarray]:
    """Compute statistics (from weights (R, n) to values (R,) by name) for blocks of weights, and join the blocks."""
    parts = [statistics(weights) for weights in blocks]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def resample(
    statistics: Callable[[np.ndarray], Mapping[Key, np.ndarray]], patients: np.ndarray, options: Bootstrap
) -> tuple[dict[Key, np.ndarray], dict[Key, np.ndarray]]:
    """
    Statistics on the resamples, and without each patient in turn, which only the method "bca" needs (else {}).

    Args:
        statistics: from weights (R, n) to values (R,) by name.
        patients: (n,) the patient of each sample.
    """
    left_out = {}
    if options.method == "bca":
        left_out = evaluate_blocks(statistics, leave_one_out_weights(patients, options))
    return evaluate_blocks(statistics, patient_weights(patients, options)), left_out


def estimate_all(
    statistics: Callable[[np.ndarray], Mapping[Key, np.ndarray]],
    patients: np.ndarray,
    support: Support,
    options: Bootstrap,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> dict[Key, Estimate]:
    """Each statistic with its interval; arguments as for :func:`resample` and :func:`estimate`."""
    values = dict(statistics(np.ones((1, len(patients)))))
    drawn, left_out = resample(statistics, patients, options) if len(patients) else (values, {})
    return {
        name: estimate(float(value[0]), drawn[name], support, options, left_out.get(name), limits)
        for name, value in values.items()
    }


def interval(
    value: float,
    resampled: np.ndarray,
    confidence: float = 0.95,
    method: Method = "percentile",
    left_out: np.ndarray | None = None,
) -> tuple[float, float]:
    """
    A two-sided bootstrap interval.

    Args:
        resampled: (R,) the statistic on the resamples.
        left_out: for "bca": (P,) the statistic without each patient in turn.

    Returns:
        its lower and upper end; NaN for "bca" if the value lies outside all resamples.
    """
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "bca":
        if left_out is None:
            raise ValueError("a bca interval needs the statistic without each patient in turn (left_out)")
        tails = _bca_tails(value, resampled, tails, left_out)
    low, high = np.quantile(resampled, tails) if np.isfinite(tails).all() else (np.nan, np.nan)
    return (float(2 * value - high), float(2 * value - low)) if method == "basic" else (float(low), float(high))


def estimate(
    value: float,
    resampled: np.ndarray,
    support: Support,
    options: Bootstrap,
    left_out: np.ndarray | None = None,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """
    A value with its interval, or with the reason why it has none.

    Args:
        resampled: (R,) the statistic on the resamples, NaN where a class is absent; those are dropped and counted.
        left_out: for the method "bca": (P,) the statistic without each patient in turn.
        limits: the smallest and largest possible value; the interval is clipped to them.
    """
    usable = resampled[np.isfinite(resampled)]
    reason = _why_no_interval(value, resampled, usable, support, options)
    low, high = np.nan, np.nan
    if reason is None:
        kept = None if left_out is None else left_out[np.isfinite(left_out)]
        low, high = np.clip(interval(value, usable, options.confidence, options.method, kept), *limits)
        reason = None if np.isfinite([low, high]).all() else f"the {options.method} interval is undefined here"
    return Estimate(
        value=float(value) if np.isfinite(value) else None,
        low=float(low) if reason is None else None,
        high=float(high) if reason is None else None,
        n_units=support.n_units,
        n_patients=support.n_patients,
        n_resamples=int(usable.size),
        n_dropped=int(resampled.size - usable.size),
        reason=reason,
    )


def _why_no_interval(
    value: float, resampled: np.ndarray, usable: np.ndarray, support: Support, options: Bootstrap
) -> str | None:
    if not np.isfinite(value):
        absent = [group for group, count in support.groups.items() if count == 0]
        return f"no {absent[0]}" if absent else "this set lacks what it needs, such as cases of both classes"
    for group, count in support.groups.items():
        if count < options.min_patients:
            return f"too small for an interval: {count} {group}, but {options.min_patients} are needed"
    if resampled.size - usable.size > options.max_unusable * resampled.size:
        return f"too small for an interval: {resampled.size - usable.size} of {resampled.size} resamples lack a class"
    if np.ptp(usable) == 0:
        return "every resample has the same value, so the bootstrap cannot estimate the uncertainty"
    return None


def _bca_tails(value: float, resampled: np.ndarray, tails: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """The quantiles to take instead of `tails`: shifted by the bias, stretched by the acceleration (Efron 1987)."""
    # Half of the ties count as below the value, as in scipy.
    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    bias = norm.ppf(below)
    deviation = left_out.mean() - left_out
    spread = (deviation**2).sum() ** 1.5
    acceleration = (deviation**3).sum() / (6 * spread) if spread > 0 else 0.0
    shifted = bias + norm.ppf(tails)
    return norm.cdf(bias + shifted / (1 - acceleration * shifted))
