import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from miram.metrics import scores
from miram.metrics.predictions import read_predictions
from miram.metrics.scores import OVERALL, ScoreOptions

from .tables import make_table

TASKS = ["binary", "multiclass", "multilabel"]


def make(task_type, **options):
    table, names = make_table(task_type, **options)
    return read_predictions(table, names, task_type), ScoreOptions(dict.fromkeys(names, 0.5))


@pytest.mark.parametrize("task_type", TASKS)
def test_counting_every_image_once_gives_every_point_estimate(task_type):
    predictions, options = make(task_type)
    point = scores.values(predictions, options)
    once = scores.resampled(predictions, options, np.ones((2, len(predictions.units))), point)
    assert once.keys() == point.keys()
    assert len(point) == {"binary": 9 * 2, "multiclass": 3 * 4 + 4, "multilabel": 9 * 4}[task_type]
    for key, value in point.items():
        np.testing.assert_allclose(once[key], [value, value], atol=1e-12, err_msg=str(key))


@pytest.mark.parametrize("task_type", TASKS)
def test_weights_count_like_repeated_images(task_type):
    predictions, options = make(task_type)
    # The bins of the calibration error stay those of the sample; with equal width they are the same anyway.
    point = scores.values(predictions, options)
    counts = np.random.default_rng(0).integers(0, 4, size=len(predictions.units))
    weighted = scores.resampled(predictions, options, counts[None].astype(float), point)
    repeated = scores.values(predictions.select(np.arange(len(counts)).repeat(counts)), options)
    for key, value in repeated.items():
        np.testing.assert_allclose(weighted[key], [value], atol=1e-12, err_msg=str(key))


def test_multiclass_ranking_is_one_against_the_rest_as_in_scikit_learn():
    predictions, options = make("multiclass", unknown=0.0)
    labels = predictions.labels.argmax(axis=1)
    expected = metrics.roc_auc_score(labels, predictions.probabilities, multi_class="ovr", average="macro")
    point = scores.values(predictions, options)
    assert point["auc", OVERALL] == pytest.approx(expected)
    precision = metrics.average_precision_score(predictions.labels, predictions.probabilities, average="macro")
    assert point["average_precision", OVERALL] == pytest.approx(precision)
    assert point["accuracy", OVERALL] == metrics.accuracy_score(labels, predictions.probabilities.argmax(axis=1))


def test_multilabel_macro_is_over_the_classes_that_are_defined():
    predictions, options = make("multilabel")
    labels = predictions.labels.copy()
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, 0)
    predictions = dataclasses.replace(predictions, labels=labels)
    point = scores.values(predictions, options)
    assert np.isnan(point["auc", "c1"])
    assert point["auc", OVERALL] == pytest.approx((point["auc", "c0"] + point["auc", "c2"]) / 2)
    once = scores.resampled(predictions, options, np.ones((1, len(labels))), point)
    np.testing.assert_allclose(once["auc", OVERALL], point["auc", OVERALL])


def test_support_counts_units_patients_and_the_groups_a_metric_needs():
    predictions, options = make("multilabel")
    support = scores.supports(predictions, scores.values(predictions, options))
    known = predictions.known[:, 0]
    positive = np.unique(predictions.patients[predictions.labels[:, 0] == 1]).size
    negative = np.unique(predictions.patients[predictions.labels[:, 0] == 0]).size
    auc = support["auc", "c0"]
    assert (auc.n_units, auc.n_patients) == (known.sum(), np.unique(predictions.patients[known]).size)
    assert auc.groups == {"positive patients of class 'c0'": positive, "negative patients of class 'c0'": negative}
    assert support["sensitivity", "c0"].groups == {"positive patients of class 'c0'": positive}
    assert len(support["auc", OVERALL].groups) == 6
    assert support["auc", OVERALL].n_units == predictions.labelled.sum()
