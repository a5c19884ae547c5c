import numpy as np
import pandas as pd
import pytest
from PIL import Image

from miram.metrics.bootstrap import Bootstrap
from miram.metrics.calibration import reliability_curve
from miram.metrics.curves import precision_recall_band, roc_band
from miram.visualize.classification_curves import plot_confusion, plot_precision_recall, plot_reliability, plot_roc

RED = (214, 39, 40)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    return labels.astype(float), (labels + 2 * rng.random(60)) / 3, np.arange(60) // 2


def pixels_of(path, colour):
    # blending rounds differently on different machines
    return (np.abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - colour) <= 2).all(axis=2).sum()


def test_curves_with_band_and_operating_point(tmp_path, data):
    bootstrap = Bootstrap(n_resamples=50)
    roc, recall = roc_band(*data, bootstrap), precision_recall_band(*data, bootstrap)
    path = tmp_path / "curve.png"
    for with_mark in (False, True):
        marks = {"malignant": (0.2, 0.8)} if with_mark else None
        plot_roc({"malignant": roc}, path, "ROC", {"malignant": "AUC 0.9"}, marks)
        assert (pixels_of(path, RED) > 20) == with_mark
        plot_precision_recall({"malignant": recall}, path, "PR", {"malignant": 0.5}, None, marks)
        assert (pixels_of(path, RED) > 20) == with_mark


def test_a_panel_for_each_class_also_an_undefined_one(tmp_path, data):
    band = roc_band(*data, Bootstrap(n_resamples=10))
    empty = roc_band(np.ones(4), np.arange(4.0), np.arange(4))
    sizes = []
    for count in (1, 2, 4):
        plot_roc({f"c{index}": (band, empty)[index % 2] for index in range(count)}, tmp_path / "roc.png", "ROC")
        sizes.append(Image.open(tmp_path / "roc.png").size)
    assert sizes == [(538, 552), (936, 480), (1404, 948)]


def test_no_band_where_the_set_is_too_small(tmp_path, data):
    band = roc_band(*data, Bootstrap(n_resamples=50))
    band_pixels = []
    for shown in (band, band.assign(low=np.nan, high=np.nan)):
        plot_roc({"a": shown}, tmp_path / "roc.png", "ROC")
        band_pixels.append(pixels_of(tmp_path / "roc.png", (210, 228, 240)))
    assert band_pixels[0] > 1000
    assert band_pixels[1] < 20  # smoothed edges of the curve


def test_reliability_shows_frequencies_and_shares_also_of_nothing(tmp_path, data):
    labels, scores, _ = data
    blue = []
    nothing = pd.DataFrame(columns=["bin", "confidence", "frequency", "count"], dtype=float)
    for curve in (reliability_curve(scores, labels), nothing):
        plot_reliability({"a": curve}, tmp_path / "calibration.png", "calibration")
        blue.append(pixels_of(tmp_path / "calibration.png", (31, 119, 180)))
    assert blue[0] > 200
    assert blue[1] == 0


def test_confusion_is_coloured_by_the_share_of_its_row(tmp_path):
    names = {"task": ["benign", "malignant"]}
    dark = []
    for matrix in ([[9, 0], [0, 90]], [[9, 90], [0, 0]]):
        plot_confusion({"task": matrix}, names, tmp_path / "confusion.png", "confusion")
        dark.append(pixels_of(tmp_path / "confusion.png", (8, 48, 107)))
    # two full rows are dark in the first matrix, none in the second
    assert dark[0] > 10_000
    assert dark[1] == 0
