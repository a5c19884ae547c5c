"""configs/riskmap.yaml as a user runs it."""

import json
import sys
from functools import partial

import nibabel
import numpy as np
import pandas as pd
import pytest

from miram.inference.calibrated import Calibration, save_calibration
from miram.inference.classifying import load_trained
from miram.inference.mammograms import whole_breast
from miram.prepare.prepared import write_png16, write_volume
from miram.transforms.crops import crop_at
from miram.weights.backbone import backbone_from_encoder, save_weights_file

from ..causes import cause_of
from ..classifier_case import SIZE, as_input, make_classifier, save_model
from ..image_files import write_dicom
from .conftest import run

CLASSES = ["BENIGN", "MALIGNANT"]
SQUARE = (132, 92)  # the first pixel of the bright square


def mammogram(shape=(200, 160)):
    """Tissue of the crops' kind along the left edge, a bright square in it, in air."""
    rng = np.random.default_rng(0)
    image = np.zeros(shape, np.uint16)
    image[10:-10, :120] = rng.integers(10_000, 30_000, size=(shape[0] - 20, 120))
    row, column = SQUARE
    image[row : row + 8, column : column + 8] = 60_000
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("riskmap")
    save_model(path / "model.pt", make_classifier(steps=150), "pathology", "binary", CLASSES)
    write_png16(path / "in/a.png", mammogram())
    write_dicom(path / "in/b.dcm", 65535 - mammogram(), PhotometricInterpretation="MONOCHROME1")
    write_png16(path / "in/black.png", np.zeros((50, 50), np.uint16))
    write_volume(path / "in/volume.nii.gz", make_volume(), None)
    return path


def make_volume():
    return np.random.default_rng(0).integers(65536, size=(8, 8, 8)).astype(np.uint16)


@pytest.fixture
def workflow(inferring, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["riskmap"])
    paths = {"input": str(folder / "in/a.png"), "model": str(folder / "model.pt"), "output_dir": str(tmp_path)}
    return partial(inferring, "riskmap", **paths, calibration_file=None)


def test_what_a_monai_user_looks_for_is_where_monai_says(workflow):
    made = workflow()
    made.initialize()
    # the metadata of the bundle are another file's
    assert set(made.check_properties()) <= {"version", "monai_version", "pytorch_version", "numpy_version"}


def test_the_square_is_found_on_the_sources_grid(workflow, tmp_path):
    run(workflow(overlap=0.9))
    probability = np.asarray(nibabel.load(tmp_path / "a_probability.nii.gz").dataobj).T
    label = np.asarray(nibabel.load(tmp_path / "a_label.nii.gz").dataobj).T
    assert probability.shape == label.shape == mammogram().shape
    assert (probability.dtype, label.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(probability > 0, whole_breast(mammogram()))
    np.testing.assert_array_equal(label, probability >= 0.5)
    table = pd.read_csv(tmp_path / "findings.csv")
    best = table.iloc[0]
    # somewhere in a window that holds the square; the classifier did not learn to want it in the middle
    assert (best["row"], best["column"]) == pytest.approx((SQUARE[0] + 4, SQUARE[1] + 4), abs=SIZE / 2)
    assert best["probability"] == pytest.approx(probability.max(), abs=1e-4)
    assert table["probability"].is_monotonic_decreasing
    assert (tmp_path / "a.png").stat().st_size > 10_000
    content = json.loads((tmp_path / "findings.json").read_text())
    assert content["intended_use"].startswith("Research use only")
    assert content["images"][0]["findings"][0]["row"] == best["row"]
    assert (tmp_path / "executed_config.yaml").is_file()


def test_a_point_has_the_probability_of_the_crop_around_it(workflow, tmp_path):
    run(workflow(overlap=0.75, overlays=False))  # a window every 8 pixels
    probability = np.asarray(nibabel.load(tmp_path / "a_probability.nii.gz").dataobj).T
    network = make_classifier(steps=150)
    for row, column in ((64, 48), (136, 96)):  # centres of windows, between four pixels
        expected = network(as_input([crop_at(mammogram(), (row, column), SIZE)])).sigmoid().item()
        found = probability[row - 1 : row + 1, column - 1 : column + 1].mean()
        assert found == pytest.approx(expected, abs=0.04)  # half a pixel of the 8 to the next window


@pytest.mark.slow
def test_a_folder_of_several_formats(workflow, folder, tmp_path):
    run(workflow(input=str(folder / "in"), overlap=0.5, threshold=0.9, overlays=False))
    png = np.asarray(nibabel.load(tmp_path / "a_probability.nii.gz").dataobj)
    dicom = np.asarray(nibabel.load(tmp_path / "b_probability.nii.gz").dataobj)
    assert dicom.shape == (*png.shape, 1)
    np.testing.assert_array_equal(dicom[..., 0], png)
    assert not list(tmp_path.glob("*.png"))
    table = pd.read_csv(tmp_path / "findings.csv").set_index("image")
    assert "the same value" in table.loc["black.png", "problem"]
    assert "a volume" in table.loc["volume.nii.gz", "problem"]
    label = np.asarray(nibabel.load(tmp_path / "b_label.nii.gz").dataobj)
    np.testing.assert_array_equal(label, dicom >= 0.9)


def test_scaling_and_operating_point_of_the_evaluation_are_used(workflow, folder, tmp_path):
    digest = load_trained(folder / "model.pt").sha256
    save_calibration(
        tmp_path / "own.json", Calibration([0.001], [0.0], "", {"image": {"MALIGNANT": 0.501}}, "", digest)
    )
    run(workflow(calibration_file=str(tmp_path / "own.json"), overlap=0.5, overlays=False))
    probability = np.asarray(nibabel.load(tmp_path / "a_probability.nii.gz").dataobj)
    label = np.asarray(nibabel.load(tmp_path / "a_label.nii.gz").dataobj)
    np.testing.assert_allclose(probability[probability > 0], 0.5, atol=0.02)
    np.testing.assert_array_equal(label, probability >= 0.501)


def test_zoom_makes_a_coarser_source_show_the_same(workflow, folder, tmp_path):
    write_png16(tmp_path / "double.png", np.kron(mammogram(), np.ones((2, 2), np.uint16)))
    run(
        workflow(
            input=str(tmp_path / "double.png"),
            zoom=0.5,
            overlap=0.75,
            overlays=False,
            output_dir=str(tmp_path / "double"),
        )
    )
    run(workflow(overlap=0.75, overlays=False))
    double = np.asarray(nibabel.load(tmp_path / "double/double_probability.nii.gz").dataobj)[::2, ::2]
    single = np.asarray(nibabel.load(tmp_path / "a_probability.nii.gz").dataobj)
    inside = (double > 0) & (single > 0)  # the outlines of the breast may differ by a pixel
    assert inside.mean() > 0.6
    # points lie half a pixel apart, of the 8 between two windows
    np.testing.assert_allclose(double[inside], single[inside], atol=0.05)


def test_a_backbone_is_no_classifier(workflow, tmp_path, tiny_encoder):
    save_weights_file(tmp_path / "backbone.pt", backbone_from_encoder(tiny_encoder, {}, {}))
    with pytest.raises(RuntimeError) as failure:
        run(workflow(model=str(tmp_path / "backbone.pt")))
    assert "backbone.pt is not a classifier" in cause_of(failure.value)
