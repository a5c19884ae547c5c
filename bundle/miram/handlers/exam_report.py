"""The outputs of an evaluation of examinations: tables per view and breast, metrics, comparisons, a report."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from miram.data.datalist import DEMONSTRATION, describe
from miram.data.tasks import Task
from miram.files import write_json, write_table
from miram.metrics.bootstrap import Bootstrap, estimate_text
from miram.metrics.comparison import Method, average_over_seeds, compare
from miram.metrics.evaluation import evaluate_predictions
from miram.metrics.predictions import Level
from miram.visualize.html_report import write_report

logger = logging.getLogger(__name__)

JOINED = "views joined by attention"
MEAN = "mean over views"
ONE_VIEW = "one view alone, whichever it is"


@dataclass(frozen=True)
class ExamEvaluation:
    """Predictions to be evaluated."""

    name: str  # what they are of: a split, or the cross-validation
    views: pd.DataFrame  # made by :func:`miram.inference.exams.view_table`
    breasts: pd.DataFrame  # made by :func:`miram.inference.exams.breast_table`
    thresholds: Mapping[str, float]  # for "view", "breast" and "patient"

    @property
    def levels(self) -> list[tuple[pd.DataFrame, str, Level]]:
        """Each level's table, its name, and what the metrics call it."""
        return [
            (self.views, "view", "image"),
            (self.breasts, "breast", "image"),
            (self.breasts, "patient", "patient"),
        ]


def write_exam_report(
    output_dir: Path,
    evaluation: ExamEvaluation,
    task: Task,
    dataset_dir: str | os.PathLike[str],
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """
    Write views.csv, breasts.csv, metrics.json and report.html.

    Args:
        metrics: further arguments of :func:`miram.metrics.evaluation.evaluate_predictions`.
    """
    views = evaluation.views.rename(columns={"lesion": "breast"})
    breasts = evaluation.breasts.rename(columns={"image": "breast"})
    write_table(output_dir / "views.csv", views)
    write_table(output_dir / "breasts.csv", breasts)
    found = evaluate_exams(evaluation, task, metrics)
    bootstrap = Bootstrap(**{key: found["bootstrap"][key] for key in ("n_resamples", "seed", "min_patients")})
    compared = compare_views(evaluation, task, bootstrap)
    about = describe(dataset_dir)
    content = {"evaluated": evaluation.name, "data": about, "comparison": compared, **found, "provenance": dict(facts)}
    write_json(output_dir / "metrics.json", content)
    write_report(
        output_dir / "report.html",
        f"Examinations: {task.name}",
        f"{evaluation.name} of {about['name']}; positive: {task.scored[0]}",
        found,
        [],
        {
            "Area under the ROC curve of breasts with several views": describe_comparison(compared),
            "Data": about,
            "Provenance": facts,
        },
        _notes(evaluation),
        DEMONSTRATION * about["generated"],
    )
    aucs = {f"AUC per {level}": _interval(part["metrics"]["auc"]["overall"]) for level, part in found["levels"].items()}
    for name, text in {**describe_comparison(compared), **aucs, "report": output_dir / "report.html"}.items():
        logger.info("%s: %s", name, text)


def _notes(evaluation: ExamEvaluation) -> list[str]:
    """What a reader must know to judge the figures."""
    notes = [
        "A breast is positive if any lesion in it is; a patient's probability is the highest of the breasts.",
        f"The epoch and the scaling were chosen on validation patients; evaluated: {evaluation.name}.",
    ]
    if evaluation.name == "validation":
        notes.append("There is no test split: these figures are of the patients that chose the epoch, and optimistic.")
    return notes


def evaluate_exams(evaluation: ExamEvaluation, task: Task, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of `metrics.json` of all levels; see :func:`miram.metrics.evaluation.evaluate_predictions`."""
    parts: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for table, name, level in evaluation.levels:
        limits: dict[str, dict[str, float]] = {level: {task.scored[0]: evaluation.thresholds[name]}}
        found = evaluate_predictions(
            table, task.classes, "binary", threshold=limits, levels=(level,), **dict(metrics or {})
        )
        parts[name] = found["levels"][level]
    return {**found, "levels": parts}


def compare_views(evaluation: ExamEvaluation, task: Task, bootstrap: Bootstrap) -> dict[str, Any]:
    """
    The joined probability of breasts with several views, against the views' mean and against a single view.

    Returns:
        "breasts", how many there are; "auc" of each method; and "difference", by pair of methods, "one minus other".
        Empty if too few breasts have several views and a label.
    """
    several = evaluation.breasts[evaluation.breasts["views"] > 1]
    labels = several[f"label_{task.scored[0]}"].dropna()
    if labels.nunique() < 2:
        return {}
    methods = {JOINED: [several], **_baselines(evaluation.views, several, task)}
    options: dict[str, Any] = {"classes": task.classes, "task_type": "binary", "level": "image", "bootstrap": bootstrap}
    options["draw_seeds"] = False  # two views are all that there are

    def auc(name: str, other: str | None = None) -> dict[str, Any]:
        """The mean AUC of a method's tables, or the joined one's minus that of another method."""
        if other is None:
            found = average_over_seeds(Method(name, methods[name]), **options)
        else:
            one, two = Method(name, methods[name] * len(methods[other])), Method(other, methods[other])
            found = compare(one, two, **options)
        return asdict(found["auc", ""])

    pairs = [(JOINED, name) for name in methods if name != JOINED] + [(MEAN, ONE_VIEW)]
    return {
        "breasts": len(labels),
        "auc": {name: auc(name) for name in methods},
        "difference": {f"{one} minus {other}": auc(one, other) for one, other in pairs},
    }


def describe_comparison(compared: Mapping[str, Any]) -> dict[str, str]:
    """A comparison in words, by method."""
    if not compared:
        return {"not compared": "too few breasts have several views and a known label"}
    lines = {f"{name} ({compared['breasts']} breasts)": _interval(value) for name, value in compared["auc"].items()}
    return lines | {name: _interval(value) for name, value in compared["difference"].items()}


def _baselines(views: pd.DataFrame, breasts: pd.DataFrame, task: Task) -> dict[str, list[pd.DataFrame]]:
    """
    The same breasts with other probabilities: the mean over views, one view, the largest value of the risk map. Several
    tables of a method stand for the mean of their AUC.
    """
    column = f"prob_{task.scored[0]}"
    grouped = views.groupby("lesion", sort=False)[column]
    one = views.sort_values("view", kind="stable").groupby("lesion", sort=False)[column]
    values = {MEAN: grouped.mean(), "first view alone": one.first(), "last view alone": one.last()}
    if "risk_map" in breasts:
        values["largest value of the risk map"] = breasts.set_index("image")["risk_map"]
    tables = {
        name: [breasts.assign(**{column: found.reindex(breasts["image"]).to_numpy()})] for name, found in values.items()
    }
    return {**tables, ONE_VIEW: tables["first view alone"] + tables["last view alone"]}


def _interval(estimate: Mapping[str, Any]) -> str:
    return estimate_text(estimate) + (f": {estimate['reason']}" if estimate["value"] is None else "")
