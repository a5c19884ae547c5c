import numpy as np
import pytest

from miram.metrics.rank import effective_rank


def orthonormal(count, width):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(width, count)))[0].T


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (np.eye(7), 7),
        (3 * np.eye(4, 9), 4),
        (orthonormal(5, 12), 5),
        (np.tile(np.arange(1.0, 7.0), (10, 1)), 1),
        (np.zeros((4, 3)), 0),
    ],
)
def test_the_rank_of_known_matrices(features, expected):
    assert effective_rank(features.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


def test_the_rank_is_the_exponential_of_the_entropy_of_the_singular_values():
    share = np.array([0.5, 0.25, 0.25])
    assert effective_rank(np.diag(4 * share)) == pytest.approx(2**1.5)
