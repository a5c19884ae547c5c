"""From predictions per image to predictions per lesion and per patient."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd

from miram.errors import InputError
from miram.metrics.predictions import Predictions

Level = Literal["image", "lesion", "patient"]


def aggregate(predictions: Predictions, level: Level, patient_rule: Literal["max", "mean"] = "max") -> Predictions:
    """
    Pool image predictions to a level.

    - A lesion's probability is the mean over its views. An image without a lesion id counts as its own lesion.
    - A patient's probability is by default the highest of the patient's lesions: a patient has a malignancy if any
      lesion is malignant. For multi-class tasks it is the mean, since the highest of each class would not sum to 1.
    - A label is positive if any pooled label is. In multi-class tasks, a group with several classes has an unknown
      label.
    - A row whose label for a class is unknown does not count for that class, so that label and probability describe the
      same images; a group without any known label keeps its probability, with an unknown label.

    Args:
        predictions: one row per image.
        level: "image" (unchanged), "lesion" or "patient".
        patient_rule: how a patient's lesions are pooled in binary and multi-label tasks: "max" or "mean".

    Returns:
        one row per unit of the level, in order of first occurrence.
    """
    if level not in get_args(Level):
        raise InputError(f"level is {level!r}; use one of {', '.join(get_args(Level))}")
    if level == "image":
        return predictions
    lesions = _pool(predictions, predictions.lesions, "mean")
    if level == "lesion":
        return lesions
    return _pool(lesions, lesions.patients, "mean" if predictions.task_type == "multiclass" else patient_rule)


def _pool(predictions: Predictions, names: np.ndarray, rule: Literal["max", "mean"]) -> Predictions:
    """Pool the rows of one patient that share a name."""
    keys = pd.MultiIndex.from_arrays([predictions.patients, names])
    codes, _ = pd.factorize(keys)
    first = np.unique(codes, return_index=True)[1]
    labels = pd.DataFrame(predictions.labels).groupby(codes).max().to_numpy()
    if predictions.task_type == "multiclass":
        labels = np.where(labels.sum(axis=1, keepdims=True) > 1, np.nan, labels)
    labelled = np.where(predictions.known, predictions.probabilities, np.nan)
    pooled = pd.DataFrame(labelled).groupby(codes).agg(rule)
    everything = pd.DataFrame(predictions.probabilities).groupby(codes).agg(rule)
    return Predictions(
        task_type=predictions.task_type,
        classes=predictions.classes,
        units=names[first],
        patients=predictions.patients[first],
        lesions=predictions.lesions[first],
        labels=labels,
        probabilities=pooled.fillna(everything).to_numpy(),
    )
