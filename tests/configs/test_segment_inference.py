"""configs/segment_inference.yaml as a user runs it."""

import json
import sys
from functools import partial

import nibabel
import numpy as np
import pandas as pd
import pytest

from miram.inference.mammograms import whole_breast
from miram.prepare.prepared import write_png16, write_volume

from ..causes import cause_of
from ..classifier_case import make_classifier, make_crop, make_segmenter, save_model
from ..image_files import write_dicom
from .conftest import run

SQUARES = [(132, 92), (40, 21)]  # the first pixel of each


def mammogram(squares=True):
    """(200, 160): tissue of the crops' kind along the left edge, bright squares in it, in air."""
    rng = np.random.default_rng(0)
    image = np.zeros((200, 160), np.uint16)
    image[10:-10, :120] = rng.integers(10_000, 30_000, size=(180, 120))
    for row, column in SQUARES * squares:
        image[row : row + 8, column : column + 8] = 60_000
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("segment")
    save_model(path / "model.pt", make_segmenter(steps=60), "segmentation", "binary", ["background", "lesion"])
    write_png16(path / "in/a.png", mammogram())
    write_png16(path / "crop.png", make_crop(True, (1, 2), np.random.default_rng(0)))
    write_png16(path / "in/healthy.png", mammogram(squares=False))
    write_dicom(path / "in/b.dcm", 65535 - mammogram(), PhotometricInterpretation="MONOCHROME1")
    write_volume(
        path / "in/volume.nii.gz", np.random.default_rng(0).integers(65536, size=(8, 8, 8)).astype(np.uint16), None
    )
    return path


@pytest.fixture
def workflow(inferring, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segment"])
    paths = {"input": str(folder / "in/a.png"), "model": str(folder / "model.pt"), "output_dir": str(tmp_path)}
    return partial(inferring, "segment_inference", **paths, progress=False)


def read(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_what_a_monai_user_looks_for_is_where_monai_says(workflow):
    made = workflow()
    made.initialize()
    # the metadata of the bundle are another file's
    assert set(made.check_properties()) <= {"version", "monai_version", "pytorch_version", "numpy_version"}


def test_masks_of_a_folder_are_on_the_grids_of_their_sources(workflow, folder, tmp_path):
    run(workflow(input=str(folder / "in"), check_workers=0))
    mask, probability = read(tmp_path / "a_label.nii.gz").T, read(tmp_path / "a_probability.nii.gz").T
    assert mask.shape == probability.shape == mammogram().shape
    assert (mask.dtype, probability.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(mask, probability >= 0.5)
    np.testing.assert_array_equal(probability > 0, whole_breast(mammogram()))
    squares = mammogram() == 60_000
    assert 2 * (mask * squares).sum() / (mask.sum() + squares.sum()) > 0.8
    np.testing.assert_array_equal(read(tmp_path / "b_label.nii.gz")[..., 0].T, mask)  # a DICOM has three axes
    assert not read(tmp_path / "healthy_label.nii.gz").any()
    assert {path.name for path in tmp_path.glob("*.png")} == {"a.png", "b.png", "healthy.png"}

    table = pd.read_csv(tmp_path / "findings.csv")
    found = table[table["image"] == "a.png"]
    places = sorted(zip(found["row"], found["column"], strict=True), reverse=True)
    for (row, column), square in zip(places, SQUARES, strict=True):
        assert (row, column) == pytest.approx((square[0] + 4, square[1] + 4), abs=5)
    assert found["pixels"].sum() == mask.sum()
    (healthy,) = table[table["image"] == "healthy.png"].to_dict("records")
    assert (healthy["labelled"], np.isnan(healthy["pixels"])) == (False, True)
    assert "is a volume" in table.set_index("image").loc["volume.nii.gz", "problem"]
    content = json.loads((tmp_path / "findings.json").read_text())
    assert content["intended_use"].startswith("Research use only")
    assert [image["image"] for image in content["images"]] == ["a.png", "b.dcm", "healthy.png"]


def test_zoom_and_threshold_are_used(workflow, tmp_path):
    write_png16(tmp_path / "double.png", np.kron(mammogram(), np.ones((2, 2), np.uint16)))
    run(workflow(input=str(tmp_path / "double.png"), zoom=0.5, threshold=0.9, overlays=False))
    mask, probability = read(tmp_path / "double_label.nii.gz"), read(tmp_path / "double_probability.nii.gz")
    np.testing.assert_array_equal(mask, probability >= 0.9)
    run(workflow(overlays=False))
    np.testing.assert_allclose(probability[::2, ::2], read(tmp_path / "a_probability.nii.gz"), atol=0.3)
    assert not list(tmp_path.glob("a*.png"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "classifier.pt"}, "is a classifier (task 'pathology') and does not segment"),
        ({"model": "none.pt"}, "there is no trained model"),
        ({"input": "in/volume.nii.gz"}, "volume.nii.gz is a volume, but the model takes a 2D image"),
        ({"input": "crop.png"}, "looks like a crop"),
        ({"threshold": 2}, "give --threshold a probability"),
    ],
    ids=["classifier", "none", "volume", "crop", "threshold"],
)
def test_what_does_not_belong_is_an_error_with_its_remedy(workflow, folder, options, words):
    save_model(folder / "classifier.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    given = {name: str(folder / value) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(RuntimeError) as failure:
        run(workflow(**given))
    assert words in cause_of(failure.value)
