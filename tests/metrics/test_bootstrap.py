"""Intervals against scipy, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from miram.errors import InputError
from miram.metrics import weighted
from miram.metrics.bootstrap import (
    Bootstrap,
    Support,
    estimate,
    estimate_all,
    estimate_text,
    evaluate_blocks,
    interval,
    leave_one_out_weights,
    patient_weights,
)

PATIENTS = np.array(["b", "a", "b", "c", "a", "d", "b"])
ENOUGH = Support(n_units=100, n_patients=100, groups={"patients": 100})


def draw(patients, **options):
    return np.concatenate(list(patient_weights(patients, Bootstrap(**options))))


def test_images_of_a_patient_are_drawn_together():
    weights = draw(PATIENTS, n_resamples=500)
    assert weights.shape == (500, 7)
    for name in "abcd":
        columns = weights[:, name == PATIENTS]
        np.testing.assert_array_equal(columns, columns[:, :1].repeat(columns.shape[1], axis=1))
    one_of_each = weights[:, [0, 1, 3, 5]]
    np.testing.assert_array_equal(one_of_each.sum(axis=1), 4)
    # Multinomial: each count has variance 1 - 1/P; 500 draws know it to about 0.07 (three standard errors: 0.2).
    assert one_of_each.var(axis=0).mean() == pytest.approx(0.75, abs=0.2)


def test_draws_depend_on_the_seed_and_not_on_the_memory_bound():
    whole = draw(PATIENTS, n_resamples=101, seed=3)
    np.testing.assert_array_equal(whole, draw(PATIENTS, n_resamples=101, seed=3, max_values=50))
    assert not np.array_equal(whole, draw(PATIENTS, n_resamples=101, seed=4))
    blocks = list(patient_weights(PATIENTS, Bootstrap(n_resamples=101, max_values=50)))
    assert max(block.size for block in blocks) <= 50


def test_leave_one_out_leaves_one_patient_out():
    weights = np.concatenate(list(leave_one_out_weights(PATIENTS, Bootstrap(max_values=8))))
    np.testing.assert_array_equal(weights, [name != PATIENTS for name in "abcd"])


def test_evaluate_blocks_joins_what_each_block_gave():
    joined = evaluate_blocks(lambda weights: {"n": weights.sum(axis=1)}, iter([np.ones((2, 3)), np.zeros((1, 3))]))
    np.testing.assert_array_equal(joined["n"], [3, 3, 0])


@pytest.mark.parametrize(("method", "scipy_method"), [("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")])
def test_intervals_equal_scipy_on_the_same_resamples(method, scipy_method):
    sample = np.random.default_rng(0).exponential(size=40)
    reference = stats.bootstrap((sample,), np.mean, n_resamples=999, method=scipy_method, rng=1)
    left_out = (sample.sum() - sample) / (sample.size - 1)
    ours = interval(sample.mean(), reference.bootstrap_distribution, 0.95, method, left_out)
    np.testing.assert_allclose(ours, reference.confidence_interval, rtol=1e-10)


def test_accuracy_interval_has_the_binomial_closed_form():
    """With one image a patient the resampled accuracy is Binomial(n, accuracy) / n."""
    right = np.arange(200) < 150
    resampled = weighted.mean(right.astype(float), draw(np.arange(200), n_resamples=20_000))
    expected = stats.binom.ppf([0.025, 0.975], 200, 0.75) / 200
    # One step of the binomial is 0.005, and the quantiles of 20,000 draws fall on it or beside it.
    np.testing.assert_allclose(interval(0.75, resampled), expected, atol=0.005 + 1e-9)
    assert resampled.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 200), rel=0.02)  # 4 x 1 / sqrt(2 x 20,000)


def delong_error(labels, scores):
    """Standard error of the AUC (DeLong et al. 1988), from the placements of each sample."""
    wins = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
    return np.sqrt(wins.mean(axis=1).var(ddof=1) / len(wins) + wins.mean(axis=0).var(ddof=1) / wins.shape[1])


def test_auc_interval_is_as_wide_as_delong_says():
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], [150, 250])
    scores = rng.normal(size=400) + labels
    resampled = weighted.roc_auc(*weighted.curve_counts(labels, scores, draw(np.arange(400), n_resamples=5000)))
    # 5,000 draws know a standard deviation to 1 %; the rest is of order 1/n.
    assert resampled.std() == pytest.approx(delong_error(labels, scores), rel=0.05)


def simulate(rng, correlation, patients=150, views=2, separation=1.0):
    """Binormal scores, correlated within a patient; the true AUC is Phi(separation / sqrt 2)."""
    labels = (np.arange(patients) < patients // 3).astype(float).repeat(views)
    shared = rng.normal(size=patients).repeat(views)
    own = rng.normal(size=labels.size)
    return labels, separation * labels + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def coverage(data_sets, resampled_patients, correlation=0.8, separation=1.0, n_resamples=400):
    truth = stats.norm.cdf(separation / np.sqrt(2))
    covered = 0
    for seed in range(data_sets):
        labels, scores = simulate(np.random.default_rng([7, seed]), correlation, separation=separation)
        counts = weighted.curve_counts(labels, scores, draw(resampled_patients, n_resamples=n_resamples, seed=seed))
        low, high = interval(np.nan, weighted.roc_auc(*counts))
        covered += low <= truth <= high
    return covered / data_sets


def test_auc_interval_covers_the_truth_only_if_patients_are_resampled():
    data_sets = 500
    by_patient = coverage(data_sets, np.arange(150).repeat(2))
    by_image = coverage(data_sets, np.arange(300))
    # Nominal 95 %. A percentile interval of 50 against 100 patients loses up to a point; 99.9 % of binomial counts at
    # 94 to 95 % lie in this band.
    low, high = (
        stats.binom.ppf(0.0005, data_sets, 0.94) / data_sets,
        stats.binom.ppf(0.9995, data_sets, 0.95) / data_sets,
    )
    assert low <= by_patient <= high
    # Two views with correlation 0.8 hold 2 / 1.8 patients' worth: the interval is 1 / sqrt(1.8) of what it should be,
    # which covers 85.6 % (of the normal distribution); a point more for the approximation.
    expected = stats.norm.cdf(1.96 / np.sqrt(1.8)) * 2 - 1
    assert by_image == pytest.approx(expected, abs=3.3 * np.sqrt(expected * (1 - expected) / data_sets) + 0.01)
    assert by_image < by_patient - 0.05


def test_resamples_without_a_class_are_dropped_and_counted():
    labels = np.arange(60) < 3
    weights = draw(np.arange(60), n_resamples=4000)
    values = weighted.threshold_metrics(labels.astype(float), labels.astype(float), weights, 0.5)["sensitivity"]
    absent = np.isnan(values).sum()
    chance = (1 - 3 / 60) ** 60
    assert absent == pytest.approx(4000 * chance, abs=4 * np.sqrt(4000 * chance))
    found = estimate(0.5, np.where(np.isnan(values), np.nan, np.arange(4000)), ENOUGH, Bootstrap(max_unusable=0.1))
    assert (found.n_dropped, found.n_resamples) == (absent, 4000 - absent)
    assert found.low is not None


@pytest.mark.parametrize(
    ("value", "resampled", "groups", "message"),
    [
        (0.5, np.arange(100.0), {"positive patients": 9}, "9 positive patients, but 10 are needed"),
        (0.5, np.where(np.arange(100) < 6, np.nan, np.arange(100)), {}, "6 of 100 resamples lack a class"),
        (1.0, np.ones(100), {}, "every resample has the same value"),
        (np.nan, np.full(100, np.nan), {"positive patients": 0}, "no positive patients"),
    ],
)
def test_a_set_too_small_gets_a_reason_and_no_interval(value, resampled, groups, message):
    found = estimate(value, resampled, Support(100, 100, groups), Bootstrap(n_resamples=100))
    assert message in found.reason
    assert (found.low, found.high) == (None, None)
    assert found.value == (None if np.isnan(value) else value)


def test_estimate_cuts_the_interval_to_the_limits():
    found = estimate(0.9, np.linspace(0.5, 0.95, 101), ENOUGH, Bootstrap(method="basic"), limits=(0, 1))
    assert (found.low, found.high) == (pytest.approx(0.86125), 1.0)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ({"value": 0.8125, "low": 0.7, "high": 0.9}, "0.812 [0.700, 0.900]"),
        ({"value": 0.8125, "low": None, "high": None}, "0.812"),
        ({"value": None, "low": None, "high": None}, "undefined"),
    ],
)
def test_an_estimate_in_words_shows_what_there_is(estimate, text):
    assert estimate_text(estimate) == text


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_mean_has_its_value_within_its_interval_and_none_without_samples(method):
    options, numbers = Bootstrap(n_resamples=200, method=method, min_patients=2), np.arange(7.0)
    found = estimate_all(lambda w: {"mean": weighted.mean(numbers, w)}, PATIENTS, ENOUGH, options)["mean"]
    assert found.low < found.value == numbers.mean() < found.high
    nobody = Support(0, 0, {"patients": 0})
    empty = estimate_all(lambda w: {"mean": weighted.mean(numbers[:0], w)}, PATIENTS[:0], nobody, options)["mean"]
    assert (empty.value, empty.reason) == (None, "no patients")


@pytest.mark.parametrize("options", [{"n_resamples": 0}, {"confidence": 95}, {"method": "normal"}])
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Bootstrap(**options)
