"""The curves of an evaluation, drawn from its table of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miram.data.tasks import Task
from miram.handlers.cases import readable
from miram.metrics.bootstrap import Bootstrap, estimate_text
from miram.metrics.calibration import reliability_curve, top_label
from miram.metrics.curves import precision_recall_band, roc_band
from miram.metrics.predictions import Level, Predictions, aggregate, read_predictions
from miram.visualize.classification_curves import (
    Marks,
    plot_confusion,
    plot_precision_recall,
    plot_reliability,
    plot_roc,
)
from miram.visualize.html_report import Picture


def draw_curves(
    output_dir: Path, table: pd.DataFrame, task: Task, found: Mapping[str, Any], level: Level
) -> list[Picture]:
    """
    Draw roc.png, precision_recall.png, calibration.png and confusion.png.

    Args:
        table: made by :func:`miram.data.prediction_table.prediction_table`.
        found: the result of :func:`miram.metrics.evaluation.evaluate_predictions` for it.
        level: whether a point of the curves is an image, a lesion or a patient.

    Returns:
        the pictures with their captions.
    """
    units = aggregate(read_predictions(table, task.classes, task.type), level)
    report = found["levels"][level]
    options = {key: value for key, value in found["bootstrap"].items() if key != "unit"}
    rocs, recalls = _bands(units, report, Bootstrap(**options))
    roc_marks, recall_marks = _marks(report["confusion"])
    unit = f"{task.name.replace('_', ' ')}, per {level}"
    plot_roc(rocs, output_dir / "roc.png", f"ROC: {unit}", _legends(report, "auc", "AUC"), roc_marks)
    plot_precision_recall(
        recalls,
        output_dir / "precision_recall.png",
        f"Precision and recall: {unit}",
        {name: float(np.nanmean(units.labels[:, column])) for column, name in enumerate(units.classes)},
        _legends(report, "average_precision", "AP"),
        recall_marks,
    )
    _draw_reliability(output_dir / "calibration.png", units, report, found["settings"], f"Calibration: {unit}")
    _draw_confusion(output_dir / "confusion.png", task, report, f"Confusion: {unit}")
    share = found["bootstrap"]["confidence"]
    drawn = any(curve["low"].notna().any() for curve in rocs.values())
    band = f"with its pointwise {share:.0%} band over patients" if drawn else "without a band: too few patients"
    several = len(units.classes) > 2
    shown = {
        "roc": (f"ROC curve per {level}, {band}.", several),
        "precision_recall": (f"Precision-recall curve per {level}, {band}.", several),
        "calibration": (
            "How often predicted probabilities come true; bars and dot sizes show the share of cases.",
            several and task.type != "multiclass",
        ),
        "confusion": ("Labels against predictions at the operating point.", several and task.type != "multiclass"),
    }
    return [Picture(output_dir / f"{name}.png", caption, wide) for name, (caption, wide) in shown.items()]


def _bands(
    units: Predictions, report: Mapping[str, Any], bootstrap: Bootstrap
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """The ROC and precision-recall curves per class; without a band if the set is too small for the area's interval."""
    curves: tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]] = ({}, {})
    functions = (("auc", roc_band), ("average_precision", precision_recall_band))
    for found, (metric, function) in zip(curves, functions, strict=True):
        for column, (name, area) in enumerate(_areas(report, metric).items()):
            found[name] = function(units.labels[:, column], units.probabilities[:, column], units.patients, bootstrap)
            if area["low"] is None:
                found[name] = found[name].assign(low=np.nan, high=np.nan)
    return curves


def _areas(report: Mapping[str, Any], metric: str) -> dict[str, Mapping[str, Any]]:
    """The estimate of a metric, by class."""
    entry = report["metrics"][metric]
    return entry["per_class"] or dict.fromkeys(report["counts"]["classes"], entry["overall"])


def _legends(report: Mapping[str, Any], metric: str, short: str) -> dict[str, str]:
    """The metric with its interval as text, by class."""
    return {name: f"{short} {estimate_text(estimate, 2)}" for name, estimate in _areas(report, metric).items()}


def _marks(confusion: Any) -> tuple[Marks, Marks]:
    """Where the operating point lies on the ROC and on the precision-recall curve; nowhere in a multi-class task."""
    roc, recall = {}, {}
    for name, ((tn, fp), (fn, tp)) in confusion.items() if isinstance(confusion, dict) else ():
        if tp + fn and tn + fp:
            roc[name] = (fp / (tn + fp), tp / (tp + fn))
        if tp + fn and tp + fp:
            recall[name] = (tp / (tp + fn), tp / (tp + fp))
    return roc, recall


def _draw_reliability(
    path: Path, units: Predictions, report: Mapping[str, Any], settings: Mapping[str, Any], title: str
) -> None:
    """One diagram per class; for a multi-class task, one for the predicted class."""
    bins = {"n_bins": settings["n_bins"], "binning": settings["binning"]}
    if units.task_type == "multiclass":
        known = units.select(units.labelled)
        curves = {"all": reliability_curve(*top_label(known.labels, known.probabilities), **bins)}
        legends = {"all": f"ECE {estimate_text(report['metrics']['ece']['overall'], 2)}"}
        plot_reliability(curves, path, title, legends, "share of correct predictions")
        return
    curves = {}
    for column, name in enumerate(units.classes):
        rows = units.known[:, column]
        curves[name] = reliability_curve(units.probabilities[rows, column], units.labels[rows, column], **bins)
    plot_reliability(curves, path, title, _legends(report, "ece", "ECE"))


def _draw_confusion(path: Path, task: Task, report: Mapping[str, Any], title: str) -> None:
    if task.type == "multiclass":
        plot_confusion({"all": report["confusion"]}, {"all": [readable(name) for name in task.classes]}, path, title)
        return
    names = [readable(name) for name in task.classes] if task.type == "binary" else ["no", "yes"]
    plot_confusion(report["confusion"], dict.fromkeys(task.scored, names), path, title)
