"""A user's examinations: a row per breast, a row per view, and a picture per view."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miram.engines.exam import exam_attention, score_exams
from miram.files import as_text, write_json, write_table
from miram.inference.examinations import ExamView, as_prepared, describe_views, join_views
from miram.inference.exams import ExamModel, breast_table, view_table
from miram.inference.inputs import Inputs, output_names
from miram.progress import progress_bar
from miram.provenance.versions import provenance
from miram.readers.formats import read_image
from miram.visualize.contact_sheet import Case, plot_case
from miram.visualize.html_report import INTENDED_USE

logger = logging.getLogger(__name__)

NOTE = "Colour: the attention of the model, comparable only within a picture. It is not a probability."


def run_exam_inference(
    inputs: Inputs, output_dir: str | os.PathLike[str], model: ExamModel, num_pictures: int | None = None
) -> None:
    """
    Judge views, breasts and examinations.

    Args:
        inputs: the views, see :func:`miram.inference.mammograms.find_mammograms`.
        output_dir: gets breasts.csv, views.csv, exams.json and a PNG per view.
        num_pictures: the largest number of pictures; None draws every view.
    """
    output = Path(output_dir)
    views = describe_views(inputs, model.encoder, model.prepared)
    breasts, names = result_tables(model, views, inputs.names)
    problems = pd.DataFrame(
        [{"image": name, "problem": problem} for name, problem in inputs.problems.items()], columns=["image", "problem"]
    )
    names = pd.concat([names.assign(problem=None), problems], ignore_index=True)
    write_table(output / "breasts.csv", breasts)
    write_table(output / "views.csv", names)
    write_json(output / "exams.json", _facts(model, breasts, names))
    _draw(output, model, views[:num_pictures], inputs, names)
    for row in breasts.to_dict("records"):
        whose = [row[key] for key in ("patient", "examination", "laterality") if isinstance(row[key], str)]
        logger.info("%s: %.3f (%s)", " ".join(whose), row[_column(model)], row["view_names"])
    logger.info(
        "%d views of %d breasts judged, %d files skipped: %s. %s",
        len(views),
        len(breasts),
        len(inputs.problems),
        output / "breasts.csv",
        INTENDED_USE,
    )


def result_tables(
    model: ExamModel, views: Sequence[ExamView], names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The rows per breast and per view.

    Returns:
        breasts (`patient`, `examination`, `laterality`, `views`, `view_names`, `prob_<class>`, `called`,
        `prob_<class>_examination`: the highest of its breasts, `images`), and views in the order given.
    """
    breasts = join_views(views, model.task)
    scores = score_exams(model.network, breasts, {view.path: view.features for view in views})
    named = {view.path: as_text(name) for view, name in zip(views, names, strict=True)}
    column, task = _column(model), model.task
    rows = breast_table(breasts, scores, model.scaling, task).assign(
        examination=[breast.views[0]["study"] for breast in breasts],
        view_names=[";".join(str(item["view"] or "unknown") for item in breast.views) for breast in breasts],
        images=[";".join(named[item["image"]] for item in breast.views) for breast in breasts],
    )
    exam = rows["patient"] + "/" + rows["examination"].fillna("")
    rows[f"{column}_examination"] = rows.groupby(exam)[column].transform("max")
    rows["called"] = np.where(rows[column] >= model.thresholds["breast"], task.classes[1], task.classes[0])
    shown = ["patient", "examination", "laterality", "views", "view_names", column, "called"]
    table = view_table(breasts, scores, model.scaling, task)
    table["image"] = [named[item["image"]] for breast in breasts for item in breast.views]
    table["laterality"] = [item["laterality"] for breast in breasts for item in breast.views]
    table = table.set_index("image").loc[list(named.values())].reset_index()
    return rows[[*shown, f"{column}_examination", "images"]], table[["image", "patient", "laterality", "view", column]]


def _draw(output: Path, model: ExamModel, views: Sequence[ExamView], inputs: Inputs, table: pd.DataFrame) -> None:
    """A picture of each view; their pixels are read again, one at a time."""
    rows = zip(views, inputs.names, output_names(inputs.names), table.to_dict("records"), strict=False)
    for view, source, name, row in progress_bar(len(views), "pictures", unit="views", iterable=rows):
        pixels = as_prepared(read_image(view.path, intensity=inputs.intensity).pixels, model.prepared)
        heat = view.tiles.map(exam_attention(model.network, view.features).numpy())
        side = " ".join(part for part in (view.laterality, view.view) if part) or "side unknown"
        title = f"{side}: probability of {model.task.scored[0].lower()} in this view {row[_column(model)]:.2f}"
        plot_case(Case(pixels, heat, title, as_text(source)), output / f"{name}.png", f"{NOTE}\n{INTENDED_USE}")


def _facts(model: ExamModel, breasts: pd.DataFrame, views: pd.DataFrame) -> dict[str, Any]:
    return {
        "intended_use": INTENDED_USE,
        "task": {"name": model.task.name, "classes": list(model.task.classes)},
        "model": {"sha256": model.sha256, **model.provenance},
        "thresholds": dict(model.thresholds),
        "breasts": breasts.to_dict("records"),
        "views": views.to_dict("records"),
        "provenance": provenance(),
    }


def _column(model: ExamModel) -> str:
    return f"prob_{model.task.scored[0]}"
