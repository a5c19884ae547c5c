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


def drawn(logits, activation, rng):
    """Labels that logits (n, K) are the truth of."""
    if activation == "sigmoid":
        return (rng.random(logits.shape) < expit(logits)).astype(float)
    chosen = (rng.random((len(logits), 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return np.eye(logits.shape[1])[chosen.clip(max=logits.shape[1] - 1)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_each_sigmoid_recovers_the_scale_and_bias_that_made_its_labels(scale):
    rng = np.random.default_rng(0)
    true, bias = 2 * rng.normal(size=(40_000, 3)), np.array([-3.0, 0.0, 1.0])
    labels = drawn(true, "sigmoid", rng)
    labels[::2] = np.nan
    fitted = calibration.fit_scaling((true - bias) / scale, labels, "sigmoid")
    # 20,000 samples know both to about 2 % (the scatter over seeds); four times that.
    np.testing.assert_allclose(fitted[0], scale, rtol=0.08)
    np.testing.assert_allclose(fitted[1], bias, atol=0.12)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_softmax_recovers_one_scale_and_a_bias_a_class(scale):
    rng = np.random.default_rng(0)
    true, bias = 2 * rng.normal(size=(40_000, 3)), np.array([-1.0, 0.0, 1.0])
    fitted = calibration.fit_scaling((true - bias) / scale, drawn(true, "softmax", rng), "softmax")
    assert len(set(fitted[0])) == 1
    np.testing.assert_allclose(fitted[0], scale, rtol=0.05)
    np.testing.assert_allclose(fitted[1] - fitted[1].mean(), bias, atol=0.1)


def lesions(count, share, rng, confidence=1.0):
    """Logits (n, 1) of a network that learned as many positives as negatives, and labels that hold another share."""
    labels = (np.arange(count) < round(share * count)).astype(float)
    score = rng.normal(size=count) + 1.5 * labels
    return confidence * (1.5 * score - 1.125)[:, None], labels[:, None]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("confidence", [1.0, 3.0])
def test_400_validation_cases_undo_the_shift_of_class_weights(share, confidence):
    errors, briers = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scale, bias = calibration.fit_scaling(*lesions(400, share, rng, confidence), "sigmoid")
        logits, labels = (column[:, 0] for column in lesions(20_000, share, rng, confidence))
        probabilities, truth = expit(scale * logits + bias), expit(logits / confidence + np.log(share / (1 - share)))
        errors.append(calibration.expected_calibration_error(probabilities, labels)[0])
        briers.append(np.mean((probabilities - labels) ** 2) - np.mean((truth - labels) ** 2))
    assert np.mean(errors) < 0.03
    assert np.mean(briers) < 0.003  # of what the true probabilities reach


def test_400_validation_cases_undo_the_shift_of_class_weights_in_a_softmax():
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.7])

    def cases(count):
        labels = np.eye(3)[rng.choice(3, size=count, p=shares)]
        return 2 * (labels + 0.8 * rng.normal(size=labels.shape)), labels

    scale, bias = calibration.fit_scaling(*cases(400), "softmax")
    logits, labels = cases(20_000)
    confidence, outcome = calibration.top_label(labels, softmax(scale * logits + bias, axis=1))
    assert calibration.expected_calibration_error(confidence, outcome)[0] < 0.03


def test_few_or_separable_labels_leave_what_was_expected_nearly_as_it_was():
    expected = np.array([0.5]), np.array([-2.0])
    unknown = calibration.fit_scaling(np.ones((3, 1)), np.full((3, 1), np.nan), "sigmoid", *expected)
    np.testing.assert_allclose(unknown, expected)
    right = np.array([[6.0], [-2.0]] * 10)
    scale, bias = calibration.fit_scaling(right, (right > 0).astype(float), "sigmoid", *expected)
    assert 0.5 < scale[0] < 5
    assert abs(bias[0]) < 4
    scale, _ = calibration.fit_scaling(right, (right < 0).astype(float), "sigmoid")  # the wrong way round
    assert 0 < scale[0] < 0.2  # the ranking stays, and says little
    one_class = calibration.fit_scaling(np.zeros((8, 3)), np.eye(3)[[0] * 8], "softmax")
    assert np.abs(one_class[1]).max() < 5


@pytest.mark.parametrize(
    ("logits", "labels", "activation", "message"),
    [
        ([[3.0], [np.inf]], [[1.0], [0.0]], "sigmoid", "finite"),
        ([[3.0], [1.0]], [[1.0]], "sigmoid", "the same shape"),
        ([[3.0], [1.0]], [[1.0], [0.0]], "tanh", "sigmoid, softmax"),
    ],
)
def test_what_cannot_be_fitted_is_said(logits, labels, activation, message):
    with pytest.raises(InputError, match=message):
        calibration.fit_scaling(np.array(logits), np.array(labels), activation)


def test_bad_bins_are_named():
    with pytest.raises(InputError, match="n_bins is 0"):
        calibration.bin_index(np.array([0.5]), n_bins=0)
