import numpy as np
import pytest

from miram.generated.drawing import draw_curves, enlarge, power_law_field, ridges, winding_curves


def test_field_is_normalised_and_repeatable():
    field = power_law_field((100, 130), 1.5, np.random.default_rng(0))
    assert field.shape == (100, 130)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(field, power_law_field((100, 130), 1.5, np.random.default_rng(0)))


def test_spectrum_falls_with_the_exponent():
    spectrum = np.zeros((256, 256))
    for seed in range(20):
        field = power_law_field((256, 256), 1.5, np.random.default_rng(seed), finest=0.5)
        spectrum += np.abs(np.fft.fft2(field))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 0.02) & (frequency < 0.2)
    slope = np.polyfit(np.log(frequency[band]), np.log(spectrum[band]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.1)  # the cut at the finest wavelength bends the end a little


@pytest.mark.parametrize("finest", [3.0, 12.0])
def test_finest_wavelength_is_kept_also_where_the_field_is_drawn_small(finest):
    field = power_law_field((240, 240), 0.5, np.random.default_rng(0), finest=finest)
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(240), np.fft.fftfreq(240)))
    assert power[frequency > 2 / finest].sum() / power.sum() < 0.03  # linear enlargement leaves a little
    assert power[frequency > 0.7 / finest].sum() / power.sum() > 0.05


def test_stretch_lengthens_structures_along_its_axis():
    field = power_law_field((256, 256), 1.2, np.random.default_rng(0), coarsest=60, stretch=(6.0, 1.0))
    assert np.abs(np.diff(field, axis=0)).mean() < 0.5 * np.abs(np.diff(field, axis=1)).mean()


def test_ridges_are_one_at_zero_and_fade_with_the_width():
    np.testing.assert_allclose(ridges(np.array([0.0, 0.1, 1.0]), 0.1), [1, np.exp(-1), 0], atol=1e-6)


def test_enlarge_keeps_a_plane():
    rows, columns = np.mgrid[:5, :7].astype(float)
    large = enlarge(2 * rows - columns, (41, 61))
    np.testing.assert_allclose(large, 2 * np.linspace(0, 4, 41)[:, None] - np.linspace(0, 6, 61), atol=1e-5)


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
