"""The table of predictions: one row per image, as stored in `predictions.csv` and read by the metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from miram.data.datalist import Item
from miram.data.tasks import Task, targets
from miram.errors import InputError


def prediction_table(
    items: Sequence[Item], probabilities: np.ndarray, task: Task, dataset_dir: str | os.PathLike[str]
) -> pd.DataFrame:
    """
    Join items and their probabilities.

    Args:
        items: of a split, with absolute image paths (:func:`miram.data.datalist.load_split`).
        probabilities: (N, K), one row per item; K is 1 for a binary task.
        task: what is predicted; defines the labels.
        dataset_dir: image paths are written relative to it.

    Returns:
        `image`, `patient`, `lesion`, `label_<class>` (empty where unknown) and `prob_<class>`.

    Raises:
        InputError: if the shape of the probabilities does not match items and classes, or one is not a number.
    """
    classes = task.scored
    if probabilities.shape != (len(items), len(classes)):
        raise InputError(
            f"the predictions {probabilities.shape} do not match the {len(items)} images and {len(classes)} "
            f"classes of the task {task.name!r}"
        )
    wrong = ~np.isfinite(probabilities).all(axis=1)
    if wrong.any():
        raise InputError(f"the prediction of {items[int(wrong.argmax())]['image']} is not finite: the model is damaged")
    root = Path(dataset_dir).resolve()
    table = pd.DataFrame(
        {
            "image": [Path(item["image"]).relative_to(root).as_posix() for item in items],
            "patient": [item["patient"] for item in items],
            "lesion": [item.get("lesion") for item in items],
        }
    )
    labels = targets(items, task)
    for column, name in enumerate(classes):
        table[f"label_{name}"] = pd.Series(labels[:, column]).astype("Int64")
    for column, name in enumerate(classes):
        table[f"prob_{name}"] = probabilities[:, column].astype(float)
    return table


def wrongness(table: pd.DataFrame, task: Task, called: np.ndarray) -> pd.DataFrame:
    """
    How far the probabilities of wrong predictions are from their labels.

    Args:
        called: (N, K) bool, the predicted classes of each row.

    Returns:
        one row per image of which a class was wrongly called or not called, the most wrong first, with the table's
        index: `error`, from 0 to 1, is the largest difference between the probability of such a class and its label, or
        in a multi-class task one minus the probability of the labelled class; `column` is the index of that class.
    """
    classes = task.scored
    labels = table[[f"label_{name}" for name in classes]].to_numpy(dtype=float, na_value=np.nan)
    wrong = ~np.isnan(labels) & (labels != called)
    if task.type == "multiclass":
        wrong &= labels == 1
    distance = np.where(wrong, np.abs(labels - table[[f"prob_{name}" for name in classes]].to_numpy()), -1)
    found = pd.DataFrame({"error": distance.max(axis=1), "column": distance.argmax(axis=1)}, index=table.index)
    return found[wrong.any(axis=1)].sort_values("error", ascending=False, kind="stable")
