"""All metrics of one set of predictions: their values, values under many weightings, and the data they are based on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from miram.metrics import calibration, weighted
from miram.metrics.bootstrap import Support
from miram.metrics.calibration import Binning
from miram.metrics.predictions import Predictions

OVERALL = ""
Key = tuple[str, str]  # (metric, class), the class OVERALL for the whole set


@dataclass(frozen=True)
class ScoreOptions:
    """Settings of the metrics."""

    # the operating point of each class in binary and multi-label tasks, chosen on validation data
    thresholds: Mapping[str, float]
    specificity: float = 0.9  # at which the sensitivity is read from the ROC curve
    n_bins: int = 10  # for the calibration error
    binning: Binning = "equal_width"  # for the calibration error, "equal_width" or "equal_mass"


def values(predictions: Predictions, options: ScoreOptions) -> dict[Key, float]:
    """
    Every metric on all samples.

    Ranking metrics are one-vs-rest in multi-class tasks. The overall value of a per-class metric is its mean over the
    classes where it is defined (macro).

    Returns:
        values by (metric, class), with class "" for the whole set; NaN where undefined.
    """
    once = np.ones((1, len(predictions.units)))
    return {key: float(value[0]) for key, value in resampled(predictions, options, once).items()}


def resampled(
    predictions: Predictions, options: ScoreOptions, weights: np.ndarray, point: Mapping[Key, float] | None = None
) -> dict[Key, np.ndarray]:
    """
    Every metric under R weightings of the samples.

    Args:
        predictions: n rows.
        weights: (R, n).
        point: the result of :func:`values`; a macro mean is over the classes that are defined there. None uses those
            that are defined in all R.

    Returns:
        (R,) values by (metric, class); NaN for resamples that lack a class.
    """
    result: dict[Key, np.ndarray] = {}
    for column, name in enumerate(predictions.classes):
        found = _class_values(predictions, column, options, weights)
        result |= {(metric, name): value for metric, value in found.items()}
    for metric in dict.fromkeys(metric for metric, _ in result):
        keys = [(metric, name) for name in predictions.classes]
        defined = [result[key] for key in keys if np.isfinite((point or result)[key]).all()]
        result[metric, OVERALL] = np.mean(defined, axis=0) if defined else np.full(len(weights), np.nan)
    if predictions.task_type == "multiclass":
        rows = predictions.labelled
        overall = _multiclass_values(predictions.select(rows), options, weights[:, rows])
        result |= {(metric, OVERALL): value for metric, value in overall.items()}
    return result


def supports(predictions: Predictions, point: Mapping[Key, float]) -> dict[Key, Support]:
    """What each metric of `point` is based on; a macro mean needs the groups of every class that is defined there."""
    per_class = {name: _class_support(predictions, column) for column, name in enumerate(predictions.classes)}
    units = int(predictions.labelled.sum())
    patients = _count_patients(predictions, predictions.labelled)
    result = {}
    for metric, name in point:
        classes = [name] if name else [label for label in per_class if np.isfinite(point.get((metric, label), 0.0))]
        groups: dict[str, int] = {}
        for label in classes:
            groups |= _groups(metric, label, per_class[label])
        whole = not name or len(per_class) == 1
        result[metric, name] = Support(
            n_units=units if whole else per_class[name]["units"],
            n_patients=patients if whole else per_class[name]["labelled patients"],
            groups=groups,
        )
    return result


def _class_values(
    predictions: Predictions, column: int, options: ScoreOptions, weights: np.ndarray
) -> dict[str, np.ndarray]:
    known = predictions.known[:, column]
    labels, scores = predictions.labels[known, column], predictions.probabilities[known, column]
    weights = weights if known.all() else weights[:, known]
    positives, negatives = weighted.curve_counts(labels, scores, weights)
    result = {
        "auc": weighted.roc_auc(positives, negatives),
        "average_precision": weighted.average_precision(positives, negatives),
        "sensitivity_at_specificity": weighted.sensitivity_at_specificity(positives, negatives, options.specificity),
    }
    if predictions.task_type == "multiclass":
        return result
    return (
        result
        | weighted.threshold_metrics(labels, scores, weights, options.thresholds[predictions.classes[column]])
        | _calibration_values(calibration.squared_errors(labels, scores), scores, labels, weights, options)
    )


def _multiclass_values(known: Predictions, options: ScoreOptions, weights: np.ndarray) -> dict[str, np.ndarray]:
    confidence, outcome = calibration.top_label(known.labels, known.probabilities)
    squared = calibration.squared_errors(known.labels, known.probabilities)
    return {
        **weighted.multiclass_accuracy(known.labels, known.probabilities, weights),
        **_calibration_values(squared, confidence, outcome, weights, options),
    }


def _calibration_values(
    squared: np.ndarray, confidence: np.ndarray, outcome: np.ndarray, weights: np.ndarray, options: ScoreOptions
) -> dict[str, np.ndarray]:
    error = calibration.expected_calibration_error(confidence, outcome, weights, options.n_bins, options.binning)
    return {"brier": weighted.mean(squared, weights), "ece": error}


def _class_support(predictions: Predictions, column: int) -> dict[str, int]:
    labels = predictions.labels[:, column]
    masks: Iterable[tuple[str, np.ndarray]] = (
        ("labelled patients", ~np.isnan(labels)),
        ("positive patients", labels == 1),
        ("negative patients", labels == 0),
    )
    counts = {group: _count_patients(predictions, mask) for group, mask in masks}
    return counts | {"units": int((~np.isnan(labels)).sum())}


def _count_patients(predictions: Predictions, mask: np.ndarray) -> int:
    return int(np.unique(predictions.patients[mask]).size)


def _groups(metric: str, name: str, counts: Mapping[str, int]) -> dict[str, int]:
    """The patients that a metric of a class needs: of both classes for ranking, of any class for counting errors."""
    needed = {
        "sensitivity": ["positive patients"],
        "specificity": ["negative patients"],
        "accuracy": ["labelled patients"],
        "brier": ["labelled patients"],
        "ece": ["labelled patients"],
    }.get(metric, ["positive patients", "negative patients"])
    return {f"{group} of class {name!r}": counts[group] for group in needed}
