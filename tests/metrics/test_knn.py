import numpy as np
import pytest

from miram.errors import InputError
from miram.metrics.knn import knn_probabilities, knn_scores, mean_over_classes


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
