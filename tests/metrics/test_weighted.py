"""Weighted metrics against scikit-learn's with `sample_weight`, one resample at a time."""

from itertools import product

import numpy as np
import pytest
from sklearn import metrics

from miram.metrics import weighted
from miram.metrics.calibration import expected_calibration_error


def make_problem(seed, ties, kind, n=120, resamples=12):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    scores = rng.normal(size=n) + labels
    if ties:
        scores = np.round(scores)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples) if kind == "counts" else rng.random((resamples, n))
    return labels, scores, weights.astype(float)


PROBLEMS = [make_problem(*case) for case in product((0, 1), (False, True), ("counts", "real"))]


def reference_sensitivity(labels, scores, weights, specificity):
    rates, sensitivity, _ = metrics.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    return sensitivity[rates <= 1 - specificity + 1e-12].max()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_ranking_metrics_equal_scikit_learn(problem):
    labels, scores, weights = problem
    counts = weighted.curve_counts(labels, scores, weights)
    auc = [metrics.roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    precision = [metrics.average_precision_score(labels, scores, sample_weight=w) for w in weights]
    sensitivity = [reference_sensitivity(labels, scores, w, 0.9) for w in weights]
    np.testing.assert_allclose(weighted.roc_auc(*counts), auc, atol=1e-12)
    np.testing.assert_allclose(weighted.average_precision(*counts), precision, atol=1e-12)
    np.testing.assert_allclose(weighted.sensitivity_at_specificity(*counts, 0.9), sensitivity, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_threshold_metrics_equal_scikit_learn(problem):
    labels, scores, weights = problem
    called = scores >= 1.0
    ours = weighted.threshold_metrics(labels, scores, weights, 1.0)
    theirs = {
        "sensitivity": [metrics.recall_score(labels, called, sample_weight=w) for w in weights],
        "specificity": [metrics.recall_score(labels, called, pos_label=0, sample_weight=w) for w in weights],
        "accuracy": [metrics.accuracy_score(labels, called, sample_weight=w) for w in weights],
        "balanced_accuracy": [metrics.balanced_accuracy_score(labels, called, sample_weight=w) for w in weights],
    }
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-12)


def test_multiclass_accuracy_equals_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(3, size=90), rng.dirichlet(np.ones(3), size=90)
    weights = rng.integers(0, 4, size=(8, 90)).astype(float)
    ours = weighted.multiclass_accuracy(np.eye(3)[labels], probabilities, weights)
    called = probabilities.argmax(axis=1)
    accuracy = [metrics.accuracy_score(labels, called, sample_weight=w) for w in weights]
    balanced = [metrics.balanced_accuracy_score(labels, called, sample_weight=w) for w in weights]
    np.testing.assert_allclose(ours["accuracy"], accuracy, atol=1e-12)
    np.testing.assert_allclose(ours["balanced_accuracy"], balanced, atol=1e-12)


def test_mean_is_the_weighted_brier_score():
    rng = np.random.default_rng(0)
    labels, scores, weights = rng.integers(2, size=50), rng.random(50), rng.random((5, 50))
    brier = [metrics.brier_score_loss(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(weighted.mean((labels - scores) ** 2, weights), brier, atol=1e-12)


def test_a_resample_without_a_class_is_nan_and_leaves_the_others_alone():
    labels, scores = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.1, 0.8, 0.2])
    weights = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
    counts = weighted.curve_counts(labels, scores, weights)
    for values in (
        weighted.roc_auc(*counts),
        weighted.average_precision(*counts),
        weighted.sensitivity_at_specificity(*counts, 0.9),
        weighted.threshold_metrics(labels, scores, weights, 0.5)["balanced_accuracy"],
    ):
        np.testing.assert_array_equal(values, [np.nan, np.nan, 1.0])


def test_one_weighting_by_hand():
    labels, scores, once = np.array([1.0, 0, 1, 0, 0, 1]), np.array([0.9, 0.4, 0.4, 0.2, 0.6, 0.7]), np.ones((1, 6))
    # At 0.5 the positives 0.9 and 0.7 are found and 0.4 is missed; of the negatives 0.6 is a false alarm.
    found = weighted.threshold_metrics(labels, scores, once, 0.5)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"sensitivity": 2 / 3, "specificity": 2 / 3, "accuracy": 4 / 6, "balanced_accuracy": 2 / 3}
    )
    # A score equal to the threshold is called positive.
    assert weighted.threshold_metrics(labels, scores, once, 0.4)["sensitivity"] == 1
    # One of three negatives (0.6) lies above a positive; above it two positives (0.9, 0.7) are found at specificity 1.
    counts = weighted.curve_counts(labels, scores, once)
    assert weighted.sensitivity_at_specificity(*counts, 0.9) == 2 / 3
    assert weighted.sensitivity_at_specificity(*counts, 1 / 3) == 1


def test_no_samples_define_nothing():
    nothing, weights = np.zeros(0), np.zeros((2, 0))
    counts = weighted.curve_counts(nothing, nothing, weights)
    for values in (
        weighted.roc_auc(*counts),
        weighted.average_precision(*counts),
        weighted.sensitivity_at_specificity(*counts, 0.9),
        weighted.threshold_metrics(nothing, nothing, weights, 0.5)["accuracy"],
        weighted.mean(nothing, weights),
        expected_calibration_error(nothing, nothing, weights, binning="equal_mass"),
    ):
        np.testing.assert_array_equal(values, [np.nan, np.nan])
