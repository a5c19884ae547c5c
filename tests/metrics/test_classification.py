import numpy as np
import pytest
from sklearn import metrics

from miram.errors import InputError
from miram.metrics import classification
from miram.metrics.classification import knn_probabilities, knn_scores, mean_over_classes

LABELS = np.array([1, 0, np.nan, 1, 0, 0, np.nan, 1])
SCORES = np.array([0.9, 0.4, 1.0, 0.4, 0.2, 0.6, 0.0, 0.7])
KNOWN = ~np.isnan(LABELS)


def test_unknown_labels_are_left_out():
    labels, scores = LABELS[KNOWN], SCORES[KNOWN]
    assert classification.roc_auc(LABELS, SCORES) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert classification.roc_auc(LABELS, SCORES) == pytest.approx(7.5 / 9)
    expected = metrics.average_precision_score(labels, scores)
    assert classification.average_precision(LABELS, SCORES) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [np.array([1.0, 1, np.nan]), np.array([0.0, 0, 0]), np.full(3, np.nan)])
def test_an_absent_class_gives_nan_not_a_number(labels):
    scores = np.array([0.1, 0.5, 0.9])
    assert np.isnan(classification.roc_auc(labels, scores))
    assert np.isnan(classification.average_precision(labels, scores))


def test_confusion_matrix_counts_labels_by_row():
    matrix = classification.confusion_matrix(np.array([0, 1, 1, np.nan]), np.array([1, 1, 0, 0]), n_classes=3)
    np.testing.assert_array_equal(matrix, [[0, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert classification.confusion_matrix(np.array([np.nan]), np.array([1])).sum() == 0


def brute_force(labels, scores, rule, target):
    """The best of all thresholds, from the highest on."""
    best, chosen = -np.inf, None
    for threshold in [np.nextafter(scores.max(), np.inf), *np.unique(scores)[::-1]]:
        one, other = (metrics.recall_score(labels, scores >= threshold, pos_label=label) for label in (1, 0))
        gain = {
            "youden": one + other,
            "specificity": one if other >= target else -np.inf,
            "sensitivity": other if one >= target else -np.inf,
        }[rule]
        if gain > best + 1e-12:
            best, chosen = gain, threshold
    return chosen


@pytest.mark.parametrize("rule", ["youden", "specificity", "sensitivity"])
@pytest.mark.parametrize("seed", range(5))
def test_choose_threshold_finds_the_best_of_all(rule, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=60).astype(float)
    scores = np.round(rng.random(60) + 0.3 * labels, 1 + seed % 2)
    assert classification.choose_threshold(labels, scores, rule, 0.85) == brute_force(labels, scores, rule, 0.85)


def test_choose_threshold_can_call_nothing_positive():
    threshold = classification.choose_threshold(np.array([1.0, 0]), np.array([0.2, 0.8]), "specificity", 1.0)
    assert 0.8 < threshold < 0.8 + 1e-12


@pytest.mark.parametrize(
    ("labels", "rule", "target", "message"),
    [
        ([1.0, 1.0], "youden", None, "only one class"),
        ([1.0, 0.0], "best", None, "youden, specificity, sensitivity"),
        ([1.0, 0.0], "specificity", None, "target"),
        ([1.0, 0.0], "sensitivity", 90, "target"),
    ],
)
def test_choose_threshold_names_what_is_wrong(labels, rule, target, message):
    with pytest.raises(InputError, match=message):
        classification.choose_threshold(np.array(labels), np.array([0.1, 0.2]), rule, target)


def test_near_neighbours_weigh_more():
    """Angles of 0.1 and 0.2 to the query: 1 - cos are about 0.005 and 0.02, so the nearer weighs four times as much."""
    angles = np.array([0.1, -0.2, 3.0])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [7], [1]]  # lengths do not matter
    targets = np.array([[1, 0], [0, 1], [0, 1]], dtype=float)
    predicted = knn_probabilities(features, targets, np.array([[1.0, 0.0]]), neighbors=2)
    assert predicted == pytest.approx(np.array([[0.8, 0.2]]), abs=2e-3)


def test_images_of_unknown_label_are_no_neighbours():
    features = np.eye(3)
    targets = np.array([[1.0], [np.nan], [0.0]])
    assert knn_probabilities(features, targets, np.eye(3)[1:2], neighbors=20).shape == (1, 1)
    assert not np.isnan(knn_probabilities(features, targets, np.eye(3)[1:2])).any()
    with pytest.raises(InputError, match="needs a training image"):
        knn_probabilities(features, np.full((3, 1), np.nan), features)


def test_two_clusters_are_told_apart():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = rng.normal(size=(40, 8)) + 6 * labels[:, None] * np.eye(8)[0] - 3 * np.eye(8)[0]
    targets = labels[:, None].astype(float)
    assert knn_scores(features[:20], targets[:20], features[20:], targets[20:], 5) == {"knn_auc": 1.0, "knn_ap": 1.0}


def test_classes_without_a_score_are_left_out_of_the_mean():
    assert mean_over_classes([0.5, float("nan"), 1.0]) == 0.75
    assert np.isnan(mean_over_classes([float("nan")]))


def test_a_loss_is_better_when_it_is_lower_and_a_score_when_it_is_higher():
    assert [classification.better_sign(name) for name in ("val_loss", "val_auc", "val_ap", "val_froc")] == [-1, 1, 1, 1]
