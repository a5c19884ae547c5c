"""The table of predictions from which all metrics are computed, per image, lesion and patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from miram.errors import InputError

TaskType = Literal["binary", "multiclass", "multilabel"]
Level = Literal["image", "lesion", "patient"]


@dataclass(frozen=True)
class Predictions:
    """
    Labels and probabilities of n units (images, lesions or patients) for C classes.

    A binary task has one column, its positive class. A multi-class task has one-hot labels, all NaN where unknown.
    """

    task_type: TaskType  # "binary", "multiclass" or "multilabel"
    classes: tuple[str, ...]  # the names of the C columns
    units: np.ndarray  # (n,) text, the id of the image, lesion or patient of each row
    patients: np.ndarray  # (n,) text, the patient of each row
    lesions: np.ndarray  # (n,) text; an image without a lesion id counts as its own lesion
    labels: np.ndarray  # (n, C), 1 or 0, NaN where unknown
    probabilities: np.ndarray  # (n, C), from 0 to 1

    @property
    def known(self) -> np.ndarray:
        """(n, C) True where the label is known."""
        return ~np.isnan(self.labels)

    @property
    def labelled(self) -> np.ndarray:
        """(n,) True where any label is known."""
        return np.asarray(self.known.any(axis=1))

    def select(self, rows: np.ndarray) -> Predictions:
        """Only the given rows (indices, or (n,) booleans), in that order."""
        names = ("units", "patients", "lesions", "labels", "probabilities")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def read_predictions(frame: pd.DataFrame, classes: Sequence[str], task_type: TaskType) -> Predictions:
    """
    Check a table of predictions, one row per image, and turn it into arrays.

    Columns: `image` (unique), `patient`, `lesion` (may be missing or empty), `prob_<class>`, and either `label_<class>`
    (0, 1 or empty) or, for binary and multi-class tasks, `label` (the class's index from 0, or empty). Other columns
    are ignored. The positive class of a binary task is the last of `classes`; its `prob_` column is the only one used.

    Args:
        classes: the names of the classes; for a binary task (negative, positive) or (positive,).

    Raises:
        InputError: if a column is missing, a value is out of range, an image occurs twice or no label is known.
    """
    _check_task(classes, task_type)
    _require_columns(frame, ["image", "patient"])
    scored = tuple(classes[-1:]) if task_type == "binary" else tuple(classes)
    images = _identifiers(frame, "image")
    duplicated = pd.Series(images).duplicated().to_numpy()
    if duplicated.any():
        raise InputError(f"the image {images[duplicated][0]!r} has several predictions; keep one row per image")
    labels = _labels(frame, scored, classes, task_type, images)
    predictions = Predictions(
        task_type=task_type,
        classes=scored,
        units=images,
        patients=_identifiers(frame, "patient"),
        lesions=_lesions(frame, images),
        labels=labels,
        probabilities=_probabilities(frame, scored, task_type, images),
    )
    if not predictions.known.any():
        raise InputError(f"none of the {len(images)} predictions has a known label, so no metric can be computed")
    return predictions


def _check_task(classes: Sequence[str], task_type: str) -> None:
    if task_type not in get_args(TaskType):
        raise InputError(f"task_type is {task_type!r}; use one of {', '.join(get_args(TaskType))}")
    allowed = {"binary": (1, 2), "multiclass": range(2, 10_000), "multilabel": range(1, 10_000)}[task_type]
    if len(classes) not in allowed or len(set(classes)) != len(classes):
        raise InputError(f"classes {list(classes)} do not fit a {task_type} task; give each class once, binary 1 or 2")


def _require_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise InputError(f"the predictions lack the columns {missing}; they have {list(frame.columns)}")


def _identifiers(frame: pd.DataFrame, column: str) -> np.ndarray:
    empty = frame[column].isna()
    if empty.any():
        raise InputError(f"row {int(empty.to_numpy().argmax())} of the predictions has no {column}; fill in the column")
    return frame[column].astype(str).to_numpy(dtype=object)


def _lesions(frame: pd.DataFrame, images: np.ndarray) -> np.ndarray:
    if "lesion" not in frame.columns:
        return images
    return np.where(frame["lesion"].isna(), images, frame["lesion"].astype(str).to_numpy(dtype=object))


def _numbers(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    _require_columns(frame, columns)
    try:
        return frame[list(columns)].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"the columns {list(columns)} of the predictions must hold numbers: {error}") from error


def _probabilities(frame: pd.DataFrame, scored: Sequence[str], task_type: str, images: np.ndarray) -> np.ndarray:
    values = _numbers(frame, [f"prob_{name}" for name in scored])
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    if wrong.any():
        raise InputError(
            f"the probabilities of image {images[wrong][0]!r} are {values[wrong][0]}; they must lie in 0 to 1"
        )
    # The tolerance allows for probabilities that were written with three decimals.
    unnormalised = np.abs(values.sum(axis=1) - 1) > 1e-3 * values.shape[1]
    if task_type == "multiclass" and unnormalised.any():
        raise InputError(
            f"the probabilities of image {images[unnormalised][0]!r} sum to {values[unnormalised][0].sum():.4f}, "
            "not 1; apply a softmax, or use task_type 'multilabel'"
        )
    return values


def _labels(
    frame: pd.DataFrame, scored: Sequence[str], classes: Sequence[str], task_type: str, images: np.ndarray
) -> np.ndarray:
    if task_type != "multilabel" and "label" in frame.columns:
        return _labels_from_index(_numbers(frame, ["label"])[:, 0], len(classes), task_type, images)
    values = _numbers(frame, [f"label_{name}" for name in scored])
    wrong = ~(np.isnan(values) | np.isin(values, (0, 1))).all(axis=1)
    if task_type == "multiclass":
        wrong |= ~(np.isnan(values).all(axis=1) | (values.sum(axis=1) == 1))
    if wrong.any():
        raise InputError(
            f"the labels of image {images[wrong][0]!r} are {values[wrong][0]}; a label is 0, 1 or empty"
            + (", and exactly one class of a multi-class task is 1" if task_type == "multiclass" else "")
        )
    return values


def _labels_from_index(index: np.ndarray, n_classes: int, task_type: str, images: np.ndarray) -> np.ndarray:
    count = 2 if task_type == "binary" else n_classes
    unknown = np.isnan(index)
    wrong = ~(unknown | np.isin(index, np.arange(count)))
    if wrong.any():
        raise InputError(
            f"the label of image {images[wrong][0]!r} is {index[wrong][0]}; use 0 to {count - 1}, or empty"
        )
    one_hot = (index[:, None] == np.arange(count)).astype(float)
    one_hot[unknown] = np.nan
    return one_hot[:, 1:] if task_type == "binary" else one_hot


def aggregate(predictions: Predictions, level: Level) -> Predictions:
    """
    Pool image predictions to a level.

    - A lesion's probability is the mean over its views. An image without a lesion id counts as its own lesion.
    - A patient's probability is the highest of the patient's lesions: a patient has a malignancy if any
      lesion is malignant. For multi-class tasks it is the mean, since the highest of each class would not sum to 1.
    - A label is positive if any pooled label is. In multi-class tasks, a group with several classes has an unknown
      label.
    - A row whose label for a class is unknown does not count for that class, so that label and probability describe the
      same images; a group without any known label keeps its probability, with an unknown label.

    Args:
        predictions: one row per image.
        level: "image" (unchanged), "lesion" or "patient".

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
    return _pool(lesions, lesions.patients, "mean" if predictions.task_type == "multiclass" else "max")


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
