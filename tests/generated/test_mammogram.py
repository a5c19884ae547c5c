from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from miram.generated.mammogram import FilmSettings, draw_mammogram
from miram.generated.patients import CaseSettings, Finding, View, draw_cases

MASS = Finding("mass", "train", 1, ("OVAL",), ("CIRCUMSCRIBED",), "BENIGN", 3, 5, (0.5, 0.0), 0.08)


def film(findings=(MASS,), side="LEFT", view="CC", seed=0, size=(480, 400), **settings):
    rng = np.random.default_rng(seed)
    return draw_mammogram(View(side, view, tuple(findings)), 2, size, rng, FilmSettings(**settings))


def test_pixels_use_16_bits_and_air_has_a_gray_level_with_grain():
    pixels = film(label_fraction=0.0).pixels
    air = pixels[:40, -40:]
    assert pixels.dtype == np.uint16
    assert pixels.shape == (480, 400)
    assert 900 < air.mean() < 3600
    assert 50 < air.std() < 400
    assert len(np.unique(pixels)) > 5000


def test_a_mass_is_brighter_than_the_same_place_without_it():
    drawn = film()
    mask = drawn.masks[0]
    subtle = film([replace(MASS, subtlety=1)])
    assert mask.sum() == pytest.approx(np.pi * (0.08 * 480) ** 2, rel=0.15)
    assert drawn.pixels[mask].mean() > subtle.pixels[mask].mean() + 0.04 * 65535


def test_the_right_breast_has_its_chest_wall_at_the_right_edge():
    left, right = film(label_fraction=0.0).pixels, film(side="RIGHT", label_fraction=0.0).pixels
    np.testing.assert_array_equal(left[:, ::-1], right)
    assert left[240, 5] > 3 * left[240, -5]


def test_every_finding_has_its_mask_at_its_place():
    below = replace(MASS, number=2, position=(0.4, 0.5), kind="calc", shape=("PLEOMORPHIC",), margin=("CLUSTERED",))
    masks = film([MASS, below]).masks
    rows = [np.nonzero(mask)[0].mean() for mask in masks]
    assert rows[1] > rows[0] + 50


def test_a_label_is_written_into_the_air_only():
    with_label, without = film(label_fraction=1.0).pixels, film(label_fraction=0.0).pixels
    changed = with_label != without
    assert with_label[changed].max() > 0.6 * 65535
    assert not changed[80:].any()


def test_large_films_keep_lesions_small_enough_for_a_crop():
    rows, columns = np.nonzero(film(size=(2000, 1600), largest_radius=130.0, seed=1).masks[0])
    assert max(np.ptp(rows), np.ptp(columns)) < 448


def spectral_slopes(windows):
    """How the mean power spectrum falls from 3 to 40 and from 20 to 64 cycles a window, as exponents."""
    side = windows.shape[-1]
    hann = np.outer(np.hanning(side), np.hanning(side))
    power = (np.abs(np.fft.fft2((windows - windows.mean((1, 2), keepdims=True)) * hann)) ** 2).mean(0)
    cycles = np.rint(np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(side) * side]))).astype(int)
    spectrum = np.bincount(cycles.ravel(), power.ravel()) / np.bincount(cycles.ravel())
    bands = (np.arange(3, 41), np.arange(20, 65))
    return [np.polyfit(np.log(band), np.log(spectrum[band]), 1)[0] for band in bands]


def test_tissue_is_as_smooth_as_film():
    films = [film((), seed=seed, size=(800, 560), label_fraction=0.0).pixels for seed in range(8)]
    windows = np.array([pixels[340:468, 60:188] for pixels in films]) / 65535
    coarse, fine = spectral_slopes(windows)
    # Real films have -3.2 and -4.4 (docs/data.md); eight windows scatter by 0.2.
    assert coarse == pytest.approx(-3.2, abs=0.5)
    assert fine == pytest.approx(-4.4, abs=0.8)


def test_mean_intensity_and_size_do_not_give_malignancy_away():
    settings = CaseSettings(height=(440, 520), large_fraction=0.0)  # small films are quick, and no harder to tell
    values, malignant, patients = [], [], []
    for case in draw_cases(200, 11, settings):
        for view in case.views:
            rng = np.random.default_rng((case.number, view.side == "RIGHT", view.view == "MLO"))
            drawn = draw_mammogram(view, case.density, case.size, rng, FilmSettings())
            for finding, mask in zip(view.findings, drawn.masks, strict=True):
                row, column = (int(place.mean()) for place in np.nonzero(mask))
                crop = drawn.pixels[max(row - 128, 0) : row + 128, max(column - 128, 0) : column + 128]
                values.append([drawn.pixels[mask].mean(), crop.mean(), np.log(mask.sum())])
                malignant.append(finding.pathology == "MALIGNANT")
                patients.append(case.patient)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, values, malignant, groups=patients, cv=GroupKFold(5), method="predict_proba")
    assert len(values) > 350
    assert roc_auc_score(malignant, scores[:, 1]) < 0.65
