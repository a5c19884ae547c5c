"""Calibration on validation data after training: scale and bias of the logits, and the operating points."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from miram.data.datalist import Item
from miram.data.prediction_table import prediction_table
from miram.data.tasks import Task, targets
from miram.engines.classification import probabilities
from miram.errors import InputError
from miram.files import write_json
from miram.loading.sampling import sample_weights
from miram.losses.classification import balanced_weights
from miram.metrics.calibration import Activation, fit_scaling
from miram.metrics.classification import ThresholdRule
from miram.metrics.evaluation import choose_thresholds
from miram.weights.classifier import read_scaling

logger = logging.getLogger(__name__)


@dataclass
class Calibration:
    """How logits become probabilities, and probabilities become predicted classes ("called" classes)."""

    # factor for the logit of each class; a single number is used for all classes. Empty if nothing was fitted, which
    # means 1.
    scale: list[float] = field(default_factory=list)
    bias: list[float] = field(default_factory=list)  # added to the scaled logits; empty means 0
    note: str = "not fitted"  # where both come from
    # {level: {class: probability}} at or above which a class is called. Empty for multi-class tasks, which call the
    # most probable class, and if none were chosen, which means 0.5.
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    threshold_note: str = "0.5, not chosen"  # where the thresholds come from
    model_sha256: str | None = None  # of the model.pt that it belongs to

    def fit(
        self,
        items: Sequence[Item],
        logits: np.ndarray,
        task: Task,
        dataset_dir: str | os.PathLike[str],
        scaling: bool = True,
        rule: ThresholdRule = "youden",
        target: float | None = None,
    ) -> None:
        """
        Fit scale and bias, then choose the operating points, both on validation predictions.

        The fit starts from the current scale and bias, and keeps them for a class without a known label.

        Args:
            items: of the validation split.
            logits: (N, K), one row per item.
            rule: for the operating points; see :func:`miram.metrics.classification.choose_threshold`, also for
                `target`.
        """
        if scaling:
            self._fit_scaling(logits, targets(items, task), task)
        found = self.probabilities(torch.from_numpy(logits), task).numpy()
        self._choose_thresholds(prediction_table(items, found, task, dataset_dir), task, rule, target)

    def probabilities(self, logits: torch.Tensor, task: Task) -> torch.Tensor:
        """Calibrated probabilities (N, K), in float32, from logits (N, K)."""
        logits = logits.float()
        if self.scale:
            logits = logits * logits.new_tensor(self.scale) + logits.new_tensor(self.bias)
        return probabilities(logits, task)

    def called(self, probabilities: np.ndarray, task: Task) -> np.ndarray:
        """Which classes an image is called, bool (..., K): in a multi-class task the most probable one alone."""
        if task.type == "multiclass":
            return np.eye(len(task.scored), dtype=bool)[probabilities.argmax(axis=-1)]
        return probabilities >= np.array(list(self.thresholds_at("image", task.scored).values()))

    def describe(self) -> str:
        """Scale, bias and where they come from, as text."""
        scale, bias = (", ".join(f"{value:.3g}" for value in values) for values in (self.scale, self.bias))
        return f"logits x {scale or 1}, + {bias or 0} ({self.note})"

    def thresholds_at(self, level: str, classes: Sequence[str]) -> dict[str, float]:
        """The operating point of each class at a level; 0.5 if none was chosen."""
        chosen = self.thresholds.get(level, {})
        return {name: chosen.get(name, 0.5) for name in classes}

    def _choose_thresholds(self, table: pd.DataFrame, task: Task, rule: ThresholdRule, target: float | None) -> None:
        known = table.filter(regex="^label_").notna().any(axis=1)
        self.thresholds = {}
        if task.type == "multiclass":
            self.threshold_note = "the most probable class is called"
        elif not known.any():
            self.threshold_note = "0.5: no validation label is known, so none could be chosen"
        else:
            self.thresholds = choose_thresholds(table, task.classes, task.type, rule, target)
            aim = "highest sensitivity + specificity" if rule == "youden" else f"{rule} of at least {target}"
            patients = table.loc[known, "patient"].nunique()
            self.threshold_note = f"{aim}, chosen on {int(known.sum())} validation images of {patients} patients"
        logger.info("operating point: %s", self.threshold_note)

    def _fit_scaling(self, logits: np.ndarray, labels: np.ndarray, task: Task) -> None:
        known = int((~np.isnan(labels)).any(axis=1).sum())
        if known:
            activation: Activation = "softmax" if task.type == "multiclass" else "sigmoid"
            expected = (np.array(self.scale), np.array(self.bias)) if self.scale else (1.0, 0.0)
            scale, bias = fit_scaling(logits.astype(float), labels, activation, *expected)
            self.scale, self.bias = scale.tolist(), bias.tolist()
            self.note = f"fitted on {known} validation images"
        else:
            self.note += "; no validation label is known, so nothing could be fitted"
        logger.info("probabilities: %s", self.describe())


def save_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON, completely or not at all."""
    write_json(path, asdict(calibration))


def load_calibration(path: str | os.PathLike[str], model_sha256: str) -> Calibration | None:
    """
    Read the calibration that an evaluation fitted.

    Args:
        model_sha256: of the model that will use it.

    Returns:
        the calibration, or None if there is no file, or if it belongs to another model, which is logged.

    Raises:
        InputError: if the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        calibration = _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a calibration ({error}); delete it, and evaluate the model again") from error
    if calibration.model_sha256 != model_sha256:
        logger.warning("%s was fitted for another model and is ignored; evaluate this model again", path)
        return None
    return calibration


def _from_json(content: Any) -> Calibration:
    """A calibration from the content of its file, which may be an older one with a temperature."""
    if not isinstance(content, dict):
        raise TypeError("it is not a dictionary")
    scale, bias = read_scaling(content)
    note = content.get("note", content.get("temperature_note", ""))
    rest = {key: value for key, value in content.items() if key not in ("temperature", "temperature_note")}
    calibration = Calibration(**{**rest, "scale": scale, "bias": bias, "note": str(note)})
    levels = calibration.thresholds
    if not (isinstance(levels, dict) and all(isinstance(level, dict) for level in levels.values())):
        raise TypeError("the thresholds are not a dictionary of levels and classes")
    return calibration


def calibration_of_model(content: Mapping[str, Any], model_sha256: str) -> Calibration:
    """The calibration stored in a model.pt itself (:func:`miram.weights.classifier.load_classifier`)."""
    calibration = Calibration(model_sha256=model_sha256)
    calibration.scale, calibration.bias = read_scaling(content)
    if calibration.scale:
        calibration.note = "from the model file"
    thresholds = content.get("thresholds")
    if isinstance(thresholds, Mapping) and thresholds:
        calibration.thresholds = {level: dict(values) for level, values in thresholds.items()}
        calibration.threshold_note = "from the model file"
    return calibration


def prior_correction(labels: np.ndarray, exclusive: bool, balance: str) -> np.ndarray:
    """
    What to add to logits that were trained on balanced classes, so that they match the classes' real frequencies.

    Balancing counts the positives of a class more often than they occur, and a network learns the odds that it is
    shown. The logarithm of that factor is subtracted again (Elkan 2001).

    Args:
        labels: (N, K) 1, 0 or NaN, of the training set.
        balance: how they were balanced, see :func:`miram.losses.classification.make_classification_loss`.

    Returns:
        (K,); 0 for a class without positives, or without negatives.
    """
    if balance == "none":
        return np.zeros(labels.shape[1])
    if balance == "weights":
        negative, positive = balanced_weights(labels, exclusive)
    else:
        drawn = sample_weights(np.nan_to_num(labels))
        negative, positive = (_mean_where(drawn, labels == value) for value in (0, 1))
    usable = (negative > 0) & (positive > 0)
    odds = np.divide(1.0 if exclusive else negative, positive, out=np.ones_like(positive), where=usable)
    return np.log(odds)


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The mean of values (N,) over the rows that each column of (N, K) selects, 0 if it selects none: (K,)."""
    return values @ chosen / np.maximum(chosen.sum(axis=0), 1)
