import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from miram.errors import InputError
from miram.metrics import calibration


@pytest.mark.parametrize(("binning", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")])
def test_reliability_curve_and_ece_equal_scikit_learn(binning, strategy):
    rng = np.random.default_rng(0)
    confidence = np.round(rng.beta(2, 3, size=300), 2)
    outcome = (rng.random(300) < confidence**2).astype(float)
    frequency, mean = calibration_curve(outcome, confidence, n_bins=8, strategy=strategy)
    curve = calibration.reliability_curve(confidence, outcome, 8, binning)
    np.testing.assert_allclose(curve["frequency"], frequency)
    np.testing.assert_allclose(curve["confidence"], mean)
    expected = (curve["count"] / 300 * np.abs(frequency - mean)).sum()
    error = calibration.expected_calibration_error(confidence, outcome, None, 8, binning)
    np.testing.assert_allclose(error, [expected], rtol=1e-12)


def test_ece_is_zero_when_every_bin_keeps_its_promise():
    confidence = np.repeat([0.25, 0.75], [40, 80])
    outcome = np.concatenate([np.arange(40) < 10, np.arange(80) < 60]).astype(float)
    assert calibration.expected_calibration_error(confidence, outcome)[0] == 0
    # All wrong by a quarter, in one direction and the other.
    shifted = calibration.expected_calibration_error(np.repeat([0.5, 1.0], [40, 80]), outcome)
    np.testing.assert_allclose(shifted, [0.25])


def test_ece_weights_count_like_repeated_samples():
    rng = np.random.default_rng(0)
    confidence, outcome = rng.random(40), rng.integers(2, size=40).astype(float)
    counts = rng.integers(0, 3, size=(4, 40))
    weighted = calibration.expected_calibration_error(confidence, outcome, counts.astype(float))
    repeated = [
        calibration.expected_calibration_error(confidence.repeat(count), outcome.repeat(count))[0] for count in counts
    ]
    np.testing.assert_allclose(weighted, repeated)


def test_squared_errors_average_to_the_brier_score():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=50), rng.random(50)
    assert calibration.squared_errors(labels, scores).mean() == pytest.approx(brier_score_loss(labels, scores))
    one_hot, probabilities = np.eye(3)[rng.integers(3, size=50)], rng.dirichlet(np.ones(3), size=50)
    expected = brier_score_loss(one_hot.argmax(axis=1), probabilities, scale_by_half=False)
    assert calibration.squared_errors(one_hot, probabilities).mean() == pytest.approx(expected)


def test_top_label_is_the_highest_probability_and_whether_it_is_right():
    confidence, outcome = calibration.top_label(np.eye(2)[[0, 0]], np.array([[0.8, 0.2], [0.3, 0.7]]))
    np.testing.assert_array_equal(confidence, [0.8, 0.7])
    np.testing.assert_array_equal(outcome, [1, 0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_fit_temperature_recovers_the_one_that_made_the_labels(temperature, activation):
    rng = np.random.default_rng(0)
    logits = 2 * temperature * rng.normal(size=(40_000, 3))
    if activation == "softmax":
        chosen = (rng.random((len(logits), 1)) > softmax(logits / temperature, axis=1).cumsum(axis=1)).sum(axis=1)
        labels = np.eye(3)[chosen.clip(max=2)]
    else:
        labels = (rng.random(logits.shape) < expit(logits / temperature)).astype(float)
        labels[::2] = np.nan
    fitted = calibration.fit_temperature(logits, labels, activation)
    # 40,000 samples know it to about 0.7 % (the scatter over seeds); four times that.
    assert fitted == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_is_where_the_likelihood_is_highest():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=60) * 4
    labels = (rng.random(60) < expit(logits / 3)).astype(float)
    grid = np.geomspace(0.5, 20, 4000)
    probabilities = expit(logits / grid[:, None])
    likelihood = np.where(labels == 1, np.log(probabilities), np.log1p(-probabilities)).sum(axis=1)
    best = grid[likelihood.argmax()]
    assert calibration.fit_temperature(logits, labels, "sigmoid") == pytest.approx(best, rel=1e-3)


def test_apply_temperature_keeps_the_ranking_and_softens():
    logits = np.array([[2.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(calibration.apply_temperature(logits, 2.0, "softmax")[0, 0], expit(1.0))
    np.testing.assert_allclose(calibration.apply_temperature(logits, 2.0, "sigmoid"), expit(logits / 2))


@pytest.mark.parametrize(
    ("logits", "labels", "activation", "message"),
    [
        ([3.0, -2.0, 1.0], [1.0, 0.0, 1.0], "sigmoid", "all right"),
        ([3.0, -2.0], [0.0, 1.0], "sigmoid", "chance"),
        ([3.0, -2.0], [np.nan, np.nan], "sigmoid", "no validation label"),
        ([3.0, np.inf], [1.0, 0.0], "sigmoid", "finite"),
        ([3.0, 1.0], [1.0, 0.0], "tanh", "sigmoid, softmax"),
    ],
)
def test_fit_temperature_says_why_it_cannot(logits, labels, activation, message):
    with pytest.raises(InputError, match=message):
        calibration.fit_temperature(np.array(logits), np.array(labels), activation)


def test_bad_bins_are_named():
    with pytest.raises(InputError, match="n_bins is 0"):
        calibration.bin_index(np.array([0.5]), n_bins=0)
