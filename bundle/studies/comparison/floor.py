"""Floors without a network: logistic regression on features of a lesion that nobody has to learn."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from miram.data.datalist import Item, load_split
from miram.data.labelled import load_labelled
from miram.data.prediction_table import prediction_table
from miram.data.tasks import Task, applicable_items, read_task, targets
from miram.files import write_table
from miram.metrics.classification import roc_auc
from studies.comparison.handmade import handmade_features

logger = logging.getLogger(__name__)


def run_floor(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    kind: str,
    task: str,
    label_fraction: float = 1.0,
    seed: int = 0,
    allow_leakage: str | None = None,
    strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
) -> None:
    """
    Fit on the training split, choose the regularisation on the validation split, and predict the test split.

    Args:
        output_dir: where predictions.csv is written, for the same images as in an evaluation.
        kind: "floor" for :func:`features`, "handmade" for those of :mod:`studies.comparison.handmade`.
        label_fraction: share of the training patients, the same patients as in fine-tuning.
        seed: seed of that share.
        allow_leakage: as in fine-tuning.
        strengths: inverse regularisations (scikit-learn's C) to choose from.
    """
    found = read_task(dataset_dir, task)
    training = load_labelled(dataset_dir, "training", found, label_fraction, seed, allow_leakage)
    validation = load_labelled(dataset_dir, "validation", found)
    test = applicable_items(load_split(dataset_dir, "test"), found)
    inputs = [FLOORS[kind](items) for items in (training, validation, test)]
    labels, held_out = targets(training, found), targets(validation, found)
    predicted = {c: _predict(inputs[0], labels, inputs[1], found, c) for c in strengths}
    best = max(strengths, key=lambda c: _mean_auc(held_out, predicted[c]))
    logger.info("%s: C %g of %s is the best on the validation split", kind, best, list(strengths))
    table = prediction_table(test, _predict(inputs[0], labels, inputs[2], found, best), found, dataset_dir)
    write_table(Path(output_dir) / "predictions.csv", table)


def features(items: Sequence[Item], thumbnail_size: int = 8) -> np.ndarray:
    """
    Describe images by features without learning.

    Args:
        items: items with absolute paths of images and, if there are any, of lesion masks.
        thumbnail_size: side of the thumbnail in pixels.

    Returns:
        (N, 3 + thumbnail_size^2): mean intensity, logarithms of the lesion's area in crop pixels and of the crop's zoom
        (0 if unknown; a linear model can combine both to the true area), and the thumbnail, from 0 to 1.
    """
    return np.stack([_describe(item, thumbnail_size) for item in items])


def _describe(item: Item, size: int) -> np.ndarray:
    with Image.open(item["image"]) as image:
        pixels = np.asarray(image, dtype=np.float32) / 65535
    area = 0
    if item.get("mask") is not None:
        with Image.open(item["mask"]) as mask:
            area = int(np.count_nonzero(np.asarray(mask)))
    thumbnail = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(pixels)[None], size).numpy().ravel()
    zoom = item.get("zoom") or 1.0
    return np.concatenate([[pixels.mean(), np.log1p(area), np.log(zoom)], thumbnail])


FLOORS: dict[str, Callable[[Sequence[Item]], np.ndarray]] = {"floor": features, "handmade": handmade_features}


def _predict(inputs: np.ndarray, labels: np.ndarray, others: np.ndarray, task: Task, strength: float) -> np.ndarray:
    """(N, K) probabilities; in a multi-class task they sum to one."""
    columns = [_predict_class(inputs, label, others, strength) for label in labels.T]
    table = np.stack(columns, axis=1)
    return table / table.sum(axis=1, keepdims=True) if task.type == "multiclass" else table


def _predict_class(inputs: np.ndarray, label: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """(N,) probabilities of one class against the rest; constant if the labels contain only one of the two."""
    if np.unique(label).size < 2:
        return np.full(len(others), (label.sum() + 1) / (label.size + 2))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000))
    return np.asarray(model.fit(inputs, label).predict_proba(others)[:, 1])


def _mean_auc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean AUC over the classes that have both positive and negative labels."""
    both = [column for column in range(labels.shape[1]) if np.unique(labels[:, column]).size == 2]
    return float(np.mean([roc_auc(labels[:, column], predicted[:, column]) for column in both]))
