"""What is fitted on validation data after training: a temperature for the logits, and the operating points."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from miram.data.datalist import Item
from miram.data.prediction_table import prediction_table
from miram.data.tasks import Task, targets
from miram.errors import InputError
from miram.files import write_text
from miram.metrics.calibration import Activation, apply_temperature, fit_temperature
from miram.metrics.classification import ThresholdRule
from miram.metrics.evaluation import choose_thresholds

logger = logging.getLogger(__name__)


@dataclass
class Calibration:
    """
    How logits become probabilities, and probabilities calls.

    Args:
        temperature: by which logits are divided; None where none was fitted, which counts as 1.
        temperature_note: where it comes from, or why there is none.
        thresholds: {level: {class: probability}} from which on a class is called; empty for multi-class tasks, which
            call the most probable class, and where none were chosen, which counts as 0.5.
        threshold_note: likewise.
        model_sha256: of the model.pt that it belongs to.
    """

    temperature: float | None = None
    temperature_note: str = "not fitted"
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    threshold_note: str = "0.5, not chosen"
    model_sha256: str | None = None

    def fit(
        self,
        items: Sequence[Item],
        logits: np.ndarray,
        task: Task,
        dataset_dir: str | os.PathLike[str],
        temperature: bool = True,
        rule: ThresholdRule = "youden",
        target: float | None = None,
    ) -> None:
        """
        Fit the temperature, then choose the operating points, both on validation predictions.

        Where a temperature cannot be fitted the one in place stays, and the note says why.

        Args:
            items: of the validation split.
            logits: (N, K), a row an item.
            task: what is predicted.
            dataset_dir: the prepared folder.
            temperature: whether to fit one.
            rule: of the operating points, see :func:`miram.metrics.classification.choose_threshold`.
            target: of the rule.
        """
        if temperature:
            self._fit_temperature(logits, targets(items, task), task)
        self._choose_thresholds(
            prediction_table(items, self.probabilities(logits, task), task, dataset_dir), task, rule, target
        )

    def probabilities(self, logits: np.ndarray, task: Task) -> np.ndarray:
        """Probabilities (N, K) of logits (N, K)."""
        return apply_temperature(logits, self.temperature or 1.0, activation_of(task))

    def thresholds_at(self, level: str, classes: Sequence[str]) -> dict[str, float]:
        """The operating point of each class at a level, 0.5 where none was chosen."""
        chosen = self.thresholds.get(level, {})
        return {name: chosen.get(name, 0.5) for name in classes}

    def _choose_thresholds(self, table: pd.DataFrame, task: Task, rule: ThresholdRule, target: float | None) -> None:
        known = table.filter(regex="^label_").notna().any(axis=1)
        self.thresholds = {}
        if task.type == "multiclass":
            self.threshold_note = "the most probable class is called"
        elif not known.any():
            self.threshold_note = "0.5: no validation label is known, so that none could be chosen"
        else:
            self.thresholds = choose_thresholds(table, task.classes, task.type, rule, target)
            aim = "highest sensitivity + specificity" if rule == "youden" else f"{rule} of at least {target}"
            patients = table.loc[known, "patient"].nunique()
            self.threshold_note = f"{aim}, chosen on {int(known.sum())} validation images of {patients} patients"
        logger.info("operating point: %s", self.threshold_note)

    def _fit_temperature(self, logits: np.ndarray, labels: np.ndarray, task: Task) -> None:
        kept = "" if self.temperature is None else f"; the model's own, {self.temperature:.3g}, stays"
        try:
            self.temperature = fit_temperature(logits, labels, activation_of(task))
            known = int((~np.isnan(labels)).any(axis=1).sum())
            self.temperature_note = f"fitted by maximum likelihood on {known} validation images"
        except InputError as error:
            self.temperature_note = f"{error}{kept}"
        logger.info("temperature %s: %s", self.temperature, self.temperature_note)


def activation_of(task: Task) -> Activation:
    """What turns a task's logits into probabilities."""
    return "softmax" if task.type == "multiclass" else "sigmoid"


def save_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON, whole or not at all."""
    write_text(path, json.dumps(asdict(calibration), indent=1) + "\n")


def load_calibration(path: str | os.PathLike[str], model_sha256: str) -> Calibration | None:
    """
    Read what an evaluation fitted.

    Args:
        path: a `calibration.json`.
        model_sha256: of the model it is wanted for.

    Returns:
        the calibration, or None where there is no file, or it is of another model, which is logged.

    Raises:
        InputError: if the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**content)
        _check_kinds(calibration)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no calibration ({error}); delete it, and evaluate the model again") from error
    if calibration.model_sha256 != model_sha256:
        logger.warning("%s was fitted for another model and is left aside; evaluate this model again", path)
        return None
    return calibration


def _check_kinds(calibration: Calibration) -> None:
    temperature, levels = calibration.temperature, calibration.thresholds
    if not (temperature is None or (isinstance(temperature, int | float) and temperature > 0)):
        raise TypeError("the temperature is no positive number")
    if not (isinstance(levels, dict) and all(isinstance(level, dict) for level in levels.values())):
        raise TypeError("the thresholds are no dictionary of levels and classes")


def calibration_of_model(content: Mapping[str, object], model_sha256: str) -> Calibration:
    """What a model.pt itself holds of a calibration (:func:`miram.networks.classifier.load_classifier`)."""
    calibration = Calibration(model_sha256=model_sha256)
    temperature, thresholds = content.get("temperature"), content.get("thresholds")
    if isinstance(temperature, int | float):
        calibration.temperature, calibration.temperature_note = float(temperature), "from the model file"
    if isinstance(thresholds, Mapping) and thresholds:
        calibration.thresholds = {level: dict(values) for level, values in thresholds.items()}
        calibration.threshold_note = "from the model file"
    return calibration
