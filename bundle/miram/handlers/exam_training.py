"""Training a classifier of examinations on a prepared folder of whole views, with its evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.model_selection import StratifiedKFold

from miram.data.datalist import SPLITS, Item, describe, load_split, read_prepared, split_by_patient
from miram.data.examinations import Breast, check_views, group_breasts
from miram.data.leakage import check_leakage
from miram.data.tasks import Task
from miram.engines.exam import ExamTraining, Features, paths_of, positive_weight, score_exams, train_exam
from miram.errors import InputError
from miram.files import write_table
from miram.handlers.exam_report import ExamEvaluation, write_exam_report
from miram.inference.classifying import TrainedClassifier, load_trained
from miram.inference.exams import ExamModel, breast_table, fit_exam_scaling, view_table
from miram.inference.risk_map import largest_risks
from miram.inference.tiles import FeatureCache, TileEncoder
from miram.metrics.evaluation import choose_thresholds
from miram.provenance.versions import provenance

logger = logging.getLogger(__name__)

UNCHOSEN = {"view": 0.5, "breast": 0.5, "patient": 0.5}


def run_exam_training(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    task: str,
    encoder: TileEncoder,
    training: ExamTraining,
    folds: int = 0,
    metrics: Mapping[str, Any] | None = None,
    allow_leakage: str | Sequence[str] | None = None,
    risk_model: str | os.PathLike[str] | None = None,
) -> None:
    """
    Train on the training split, choose the epoch and the operating points on the validation split, and evaluate.

    The evaluation is on the test split, or on the validation split if there is none. With `folds`, it is on the
    predictions of each patient by a classifier that has not seen the patient.

    Args:
        dataset_dir: a prepared folder of whole views.
        output_dir: gets exam.pt, history.csv, views.csv, breasts.csv, metrics.json, PNG files and report.html.
        folds: of the cross-validation over all patients but those of the test split; 0 does none.
        metrics: further arguments of :func:`miram.metrics.evaluation.evaluate_predictions`.
        allow_leakage: see :func:`miram.data.leakage.check_leakage`.
        risk_model: the model.pt of a classifier of crops for this task, whose risk map is compared.

    Raises:
        InputError: if the folder holds crops, has no such task, or too few breasts with a label.
    """
    output, found = Path(output_dir), check_views(dataset_dir, task)
    classifier = load_trained(risk_model, task) if risk_model else None
    check_leakage(dataset_dir, allow_leakage)
    items = {split: load_split(dataset_dir, split, required=split == "training") for split in SPLITS}
    features = FeatureCache(dataset_dir, encoder).load([item for own in items.values() for item in own])
    breasts = {split: _breasts(own, features, found, split) for split, own in items.items()}
    facts = provenance(data=describe(dataset_dir), seed=training.seed, training=vars(training))
    model, history = fit_exam(breasts["training"], breasts["validation"], features, training, encoder, found)
    replace(model, prepared=read_prepared(dataset_dir), provenance=facts).save(output / "exam.pt")
    write_table(output / "history.csv", pd.DataFrame(history))
    logger.info("the model is %s", output / "exam.pt")
    split = "test" if breasts["test"] else "validation"
    evaluated = [*breasts["training"], *breasts["validation"]] if folds else breasts[split]
    if folds:
        evaluation = cross_validate(evaluated, features, training, encoder, found, folds)
    else:
        evaluation = _predict(model, evaluated, features, split)
    if classifier is not None:
        evaluation = _with_risk(evaluation, evaluated, classifier)
    write_exam_report(output, evaluation, found, dataset_dir, facts, metrics)


def fit_exam(
    training: Sequence[Breast],
    validation: Sequence[Breast],
    features: Features,
    settings: ExamTraining,
    encoder: TileEncoder,
    task: Task,
) -> tuple[ExamModel, list[dict[str, float]]]:
    """Train, then fit the scaling of the logits and choose the operating points on the validation breasts."""
    network, history = train_exam(training, validation, features, settings)
    scores = score_exams(network, validation, features)
    scaling = fit_exam_scaling(scores, validation, positive_weight(training))
    model = ExamModel(network, encoder, task, scaling, UNCHOSEN, {}, {})
    return replace(model, thresholds=_thresholds(_predict(model, validation, features, ""), task)), history


def cross_validate(
    breasts: Sequence[Breast],
    features: Features,
    settings: ExamTraining,
    encoder: TileEncoder,
    task: Task,
    folds: int,
) -> ExamEvaluation:
    """
    Predict each patient by a classifier trained on the patients of the other folds.

    A fifth of these patients chooses the epoch and the scaling. The operating point is 0.5 of the scaled
    probabilities.

    Raises:
        InputError: if there are fewer folds than 2, or fewer patients than folds.
    """
    patients = positive_patients(breasts)
    if not 2 <= folds <= len(patients):
        raise InputError(f"folds is {folds}; give 2 to {len(patients)}, the number of patients, or 0 for none")
    drawn = StratifiedKFold(folds, shuffle=True, random_state=settings.seed).split(list(patients), [*patients.values()])
    names, parts = list(patients), []
    for number, (_, held_out) in enumerate(drawn, start=1):
        tested = {names[place] for place in held_out}
        rest = [{"patient": name, "label": label} for name, label in patients.items() if name not in tested]
        chosen = {one["patient"] for one in split_by_patient(rest, 0.2, settings.seed, "label")[1]}
        learned = [breast for breast in breasts if breast.patient not in tested | chosen]
        choosing = [breast for breast in breasts if breast.patient in chosen]
        logger.info("fold %d of %d: %d patients are tested", number, folds, len(tested))
        model, _ = fit_exam(learned, choosing, features, settings, encoder, task)
        parts.append(_predict(model, [breast for breast in breasts if breast.patient in tested], features, ""))
    return ExamEvaluation(
        f"{folds}-fold cross-validation over patients",
        pd.concat([part.views for part in parts], ignore_index=True),
        pd.concat([part.breasts for part in parts], ignore_index=True),
        UNCHOSEN,
    )


def positive_patients(breasts: Sequence[Breast]) -> dict[str, bool]:
    """For each patient, whether a breast is known to be positive."""
    found: dict[str, bool] = {}
    for breast in breasts:
        found[breast.patient] = found.get(breast.patient, False) or breast.label == 1
    return found


def _breasts(items: Sequence[Item], features: Features, task: Task, split: str) -> list[Breast]:
    breasts = group_breasts([item for item in items if item["image"] in features], task)
    labels = [breast.label for breast in breasts]
    logger.info(
        "%s: %d breasts of %d patients, %d positive, %d negative, %d unknown; %d have several views",
        split,
        len(breasts),
        len({breast.patient for breast in breasts}),
        labels.count(1.0),
        labels.count(0.0),
        len(labels) - labels.count(1.0) - labels.count(0.0),
        sum(len(breast.views) > 1 for breast in breasts),
    )
    return breasts


def _predict(model: ExamModel, breasts: Sequence[Breast], features: Features, name: str) -> ExamEvaluation:
    scores = score_exams(model.network, breasts, features)
    views = view_table(breasts, scores, model.scaling, model.task)
    return ExamEvaluation(name, views, breast_table(breasts, scores, model.scaling, model.task), model.thresholds)


def _with_risk(evaluation: ExamEvaluation, breasts: Sequence[Breast], classifier: TrainedClassifier) -> ExamEvaluation:
    """The same, each breast with the largest value of its views' risk maps as `risk_map`."""
    risks = largest_risks(classifier, [path for breast in breasts for path in paths_of(breast)])
    largest = {breast.name: max(risks[path] for path in paths_of(breast)) for breast in breasts}
    table = evaluation.breasts
    return replace(evaluation, breasts=table.assign(risk_map=table["image"].map(largest)))


def _thresholds(evaluation: ExamEvaluation, task: Task) -> dict[str, float]:
    """The operating points of highest sensitivity + specificity on validation data; 0.5 without labels."""
    name, chosen = task.scored[0], dict(UNCHOSEN)
    for table, level, metric_level in evaluation.levels:
        if table[f"label_{name}"].notna().any():
            chosen[level] = choose_thresholds(table, task.classes, "binary", levels=(metric_level,))[metric_level][name]
    return chosen
