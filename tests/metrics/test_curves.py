import numpy as np
import pytest
from sklearn import metrics

from miram.metrics.bootstrap import Bootstrap
from miram.metrics.curves import precision_recall_band, roc_band


def problem(n=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(float)
    scores = np.round(rng.normal(size=n) + labels, 1)
    labels[:5] = np.nan
    return labels, scores, np.arange(n) // 2


def test_roc_curve_is_that_of_scikit_learn():
    labels, scores, patients = problem()
    band = roc_band(labels, scores, patients, Bootstrap(n_resamples=300))
    rates, sensitivity, _ = metrics.roc_curve(labels[5:], scores[5:], drop_intermediate=False)
    # Between thresholds a straight line; at a vertical step the highest point.
    for rate, found in zip(band["false_positive_rate"], band["sensitivity"], strict=True):
        expected = sensitivity[rates == rate].max() if (rates == rate).any() else np.interp(rate, rates, sensitivity)
        assert found == pytest.approx(expected)
    assert (band["low"] <= band["sensitivity"]).all()
    assert (band["high"] >= band["sensitivity"]).all()
    assert 0.05 < (band["high"] - band["low"]).iloc[10] < 0.5


def test_precision_recall_curve_is_that_of_scikit_learn():
    labels, scores, patients = problem()
    band = precision_recall_band(labels, scores, patients, Bootstrap(n_resamples=300))
    precision, recall, _ = metrics.precision_recall_curve(labels[5:], scores[5:])
    # scikit-learn orders by falling recall and ends with a made-up point at recall 0.
    expected = [precision[:-1][recall[:-1] >= max(level, 1e-9) - 1e-9][-1] for level in band["recall"]]
    np.testing.assert_allclose(band["precision"], expected)
    assert (band["high"] - band["low"]).iloc[50] > 0.05


def test_without_a_class_there_is_no_curve():
    assert roc_band(np.array([1.0, np.nan]), np.array([0.1, 0.2]), np.arange(2)).empty
    assert list(precision_recall_band(np.zeros(2), np.zeros(2), np.arange(2))) == ["recall", "precision", "low", "high"]
