import numpy as np
import pytest

from miram.generated.drawing import draw_curves, winding_curves


@pytest.mark.parametrize("width", [0.8, 1.4, 2.4])
def test_a_stroke_has_its_brightness_and_width(width):
    columns = np.arange(160) / 2
    on_pixel, between = (
        draw_curves((41, 80), np.stack([np.full(160, row), columns], axis=1), 0.5, width) for row in (20.0, 20.5)
    )
    profile = on_pixel[:, 40]
    spread = np.sqrt((profile * (np.arange(41) - 20.0) ** 2).sum() / profile.sum())
    assert spread == pytest.approx(width, rel=0.02)
    assert (on_pixel + between)[20, 40] / 2 == pytest.approx(0.5, rel=0.03)


def test_points_outside_the_picture_are_left_out():
    assert not draw_curves((10, 10), np.array([[-5.0, 3.0], [3.0, 40.0]]), 1.0, 0.8).any()


def test_curves_start_where_they_should_and_have_their_lengths():
    start, lengths = np.array([[10.0, 10.0], [50.0, 20.0]]), np.array([30.0, 60.0])
    points, weights = winding_curves(start, np.zeros(2), lengths, np.ones(2), 0.0, np.random.default_rng(0))
    first = points[points[:, 0] < 30]
    np.testing.assert_allclose(first[:, 0], 10, atol=1e-6)  # no bend: straight along the columns
    assert first[:, 1].max() == pytest.approx(40, abs=1)
    assert len(points) == pytest.approx(2 * 90, abs=4)
    assert weights.min() > 0
    assert weights.max() == 1
