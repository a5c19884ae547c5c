"""
Comparisons of two methods on the same images: paired differences over patients and, with several seeds, over both.

With several training seeds, patients and seeds are drawn independently and crossed, as each seed predicts every patient
(the pigeonhole bootstrap, Owen 2007, https://doi.org/10.1214/07-AOAS122). Of S seeds, S - 1 are drawn with replacement,
which makes the variance of their mean unbiased (Rao and Wu 1988, https://doi.org/10.1080/01621459.1988.10478591);
drawing S would understate it by 1 / S, a third for three seeds.

In simulation (AUC difference, 100 patients, 300 data sets) the 95 % interval of three seeds covered the truth in 94 to
98 % if the training seed causes less variation than the choice of patients (the interval was up to 1.4 times too wide),
in 92 to 94 % if it causes as much, and in 85 to 89 % if twice as much: then only more seeds help. Without resampling
seeds the coverage was 45 to 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from miram.errors import InputError
from miram.metrics import scores
from miram.metrics.bootstrap import Bootstrap, Estimate, estimate, resample
from miram.metrics.evaluation import method_of, thresholds_of
from miram.metrics.predictions import Level, Predictions, TaskType, aggregate, read_predictions
from miram.metrics.scores import Key, ScoreOptions


@dataclass(frozen=True)
class Method:
    """A method's predictions on one set of images."""

    name: str  # for messages and tables
    # one table per training seed, as for :func:`miram.metrics.evaluation.evaluate_predictions`
    predictions: Sequence[pd.DataFrame]


def compare(
    first: Method,
    second: Method,
    classes: Sequence[str],
    task_type: TaskType,
    level: Level = "lesion",
    bootstrap: Bootstrap | None = None,
    specificity: float = 0.9,
    draw_seeds: bool = True,
) -> dict[Key, Estimate]:
    """
    The difference first - second of every metric, with a paired interval over patients and seeds.

    The same patients and seeds are drawn for both methods: seed i of one and seed i of the other are a pair, since they
    share what the seed determines (the labelled subset, the order, the initial weights).

    Args:
        second: another method, with the same number of seeds, on the same images with the same labels.
        bootstrap: how intervals are made (percentile or basic).
        draw_seeds: False where the tables are all that there are, such as the two views of a breast, and not a sample:
            then only patients are drawn.

    Returns:
        estimates by (metric, class), with class "" for the whole set; the value is the mean over seeds.

    Raises:
        InputError: if images, patients, lesions, labels or the number of seeds differ.
    """
    if len(first.predictions) != len(second.predictions):
        raise InputError(
            f"{first.name} has {len(first.predictions)} seeds and {second.name} {len(second.predictions)}; "
            "a paired comparison needs the same seeds for both"
        )
    ones = _read(first, classes, task_type, level, specificity)
    others = _read(second, classes, task_type, level, specificity)
    _check_same_units([*ones, *others], [f"{m.name}, seed {i}" for m in (first, second) for i in range(len(ones))])
    pairs = list(zip(ones, others, strict=True))
    return _estimate_mean(pairs, bootstrap or Bootstrap(), draw_seeds)


def average_over_seeds(
    method: Method,
    classes: Sequence[str],
    task_type: TaskType,
    level: Level = "lesion",
    bootstrap: Bootstrap | None = None,
    specificity: float = 0.9,
    draw_seeds: bool = True,
) -> dict[Key, Estimate]:
    """The mean over seeds of a method's metrics, with intervals over patients and seeds; arguments as for `compare`."""
    runs = _read(method, classes, task_type, level, specificity)
    _check_same_units(runs, [f"{method.name}, seed {i}" for i in range(len(runs))])
    return _estimate_mean([(run,) for run in runs], bootstrap or Bootstrap(), draw_seeds)


def check_margin(margin: float) -> None:
    """Raise an InputError if a non-inferiority margin is not positive."""
    if margin <= 0:
        raise InputError(f"the non-inferiority margin is {margin}; give it as a positive number")


def verdict(difference: Estimate, margin: float) -> str:
    """
    Compare the interval of a difference (higher is better) with a non-inferiority margin.

    Args:
        difference: first - second.
        margin: the largest loss that is acceptable, positive (for example 0.02 of AUC).

    Returns:
        "superior" (lower end above 0), "not inferior" (lower end above -margin), "inferior" (upper end below -margin),
        "inconclusive", or "no interval".
    """
    check_margin(margin)
    if difference.low is None or difference.high is None:
        return "no interval"
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "not inferior"
    return "inferior" if difference.high < -margin else "inconclusive"


@dataclass(frozen=True)
class _Run:
    """One seed's predictions, per image and at the compared level."""

    images: Predictions
    units: Predictions
    options: ScoreOptions


def _read(method: Method, classes: Sequence[str], task_type: TaskType, level: Level, specificity: float) -> list[_Run]:
    if not method.predictions:
        raise InputError(f"{method.name} has no predictions; give a table per seed")
    runs = []
    for frame in method.predictions:
        images = read_predictions(frame, classes, task_type)
        images = images.select(np.argsort(images.units))
        options = ScoreOptions(thresholds_of(images, 0.5, level), specificity)
        runs.append(_Run(images, aggregate(images, level), options))
    return runs


def _check_same_units(runs: Sequence[_Run], names: Sequence[str]) -> None:
    reference = runs[0].images
    for run, name in zip(runs[1:], names[1:], strict=True):
        for field, label in {
            "units": "images",
            "patients": "patients",
            "lesions": "lesions",
            "labels": "labels",
        }.items():
            one, other = getattr(reference, field), getattr(run.images, field)
            if one.shape != other.shape or not pd.DataFrame(one).equals(pd.DataFrame(other)):
                raise InputError(
                    f"the predictions of {names[0]} and of {name} do not match: their {label} differ; "
                    "evaluate both on the same split of the same data list"
                )


def _estimate_mean(rows: Sequence[tuple[_Run, ...]], bootstrap: Bootstrap, draw_seeds: bool) -> dict[Key, Estimate]:
    """The mean over seeds of a run's metrics, or of the difference of two runs' metrics."""
    if bootstrap.method == "bca":
        raise InputError("method 'bca' is not defined for several seeds; use 'percentile'")
    labelled = rows[0][0].units.labelled
    rows = [tuple(replace(run, units=run.units.select(labelled)) for run in row) for row in rows]
    points = [[scores.values(run.units, run.options) for run in row] for row in rows]
    supports = scores.supports(rows[0][0].units, points[0][0])

    def statistics(weights: np.ndarray) -> dict[tuple[int, Key], np.ndarray]:
        result: dict[tuple[int, Key], np.ndarray] = {}
        for seed, (row, point) in enumerate(zip(rows, points, strict=True)):
            parts = [scores.resampled(run.units, run.options, weights, p) for run, p in zip(row, point, strict=True)]
            result |= {(seed, key): _difference([part[key] for part in parts]) for key in point[0]}
        return result

    drawn, _ = resample(statistics, rows[0][0].units.patients, bootstrap)
    seeds = _seed_weights(len(rows), bootstrap) if draw_seeds else np.full((1, len(rows)), 1 / len(rows))
    estimates = {}
    for key in points[0][0]:
        value = float(np.mean([_difference([part[key] for part in point]) for point in points]))
        resampled = (np.stack([drawn[seed, key] for seed in range(len(rows))], axis=1) * seeds).sum(axis=1)
        estimates[key] = estimate(value, resampled, supports[key], method_of(key, bootstrap))
    return estimates


def _difference(parts: Sequence[Any]) -> Any:
    """The only part, or the first minus the second."""
    return parts[0] if len(parts) == 1 else parts[0] - parts[1]


def _seed_weights(n_seeds: int, bootstrap: Bootstrap) -> np.ndarray:
    """(R, S) shares of each seed in each resample: S - 1 of S are drawn, independently of the patients."""
    if n_seeds == 1:
        return np.ones((bootstrap.n_resamples, 1))
    rng = np.random.default_rng([bootstrap.seed, n_seeds])
    shares = np.full(n_seeds, 1 / n_seeds)
    return rng.multinomial(n_seeds - 1, shares, size=bootstrap.n_resamples) / (n_seeds - 1)
