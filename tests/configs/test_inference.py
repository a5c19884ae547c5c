"""configs/inference.yaml as a user runs it."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from miram.data.datalist import load_split
from miram.inference.calibrated import Calibration, save_calibration
from miram.inference.classifying import load_trained
from miram.networks.classifier import ViTClassifier
from miram.prepare.prepared import read_png16, write_png16, write_volume
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content

from ..classifier_case import ENCODER, PREPROCESSING, as_input, make_classifier, make_folder, save_model
from .conftest import run

CLASSES = ["BENIGN", "MALIGNANT"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inference")
    make_folder(path / "data", {"training": 1, "validation": 1, "test": 2})
    save_model(path / "runs/finetune_pathology/model.pt", make_classifier(steps=8), "pathology", "binary", CLASSES)
    return path


@pytest.fixture
def workflow(inferring, folder, tmp_path):
    paths = {"input": str(folder / "data/images"), "runs_dir": str(folder / "runs"), "output_dir": str(tmp_path)}
    return partial(inferring, "inference", **paths)


def expected_logits(path):
    return make_classifier(steps=8)(as_input([read_png16(path)])).item()


def test_what_a_monai_user_looks_for_is_where_monai_says(workflow):
    made = workflow()
    made.initialize()
    # the metadata of the bundle are another file's
    assert set(made.check_properties()) <= {"version", "monai_version", "pytorch_version", "numpy_version"}


def test_a_folder_gives_a_row_and_a_picture_an_image(workflow, folder, tmp_path):
    run(workflow())
    table = pd.read_csv(tmp_path / "predictions.csv")
    items = sorted(load_split(folder / "data", "test"), key=lambda item: item["image"])
    rows = table[table["image"].str.startswith("test")].reset_index(drop=True)
    assert len(table) == 8
    for row, item in zip(rows.to_dict("records"), items, strict=True):
        value = 1 / (1 + np.exp(-expected_logits(item["image"])))
        assert row["prob_MALIGNANT"] == pytest.approx(value, rel=1e-4)
        assert row["called"] == CLASSES[int(value >= 0.5)]
        assert (tmp_path / row["image"]).with_suffix(".png").stat().st_size > 10_000
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["image"] for row in content["predictions"]] == table["image"].to_list()
    assert content["intended_use"].startswith("Research use only")


def test_the_scaling_and_operating_point_of_an_evaluation_are_used(workflow, folder, tmp_path):
    digest = load_trained(folder / "runs/finetune_pathology/model.pt").sha256
    path = load_split(folder / "data", "test")[0]["image"]
    save_calibration(tmp_path / "own.json", Calibration([0.3], [-0.5], "", {"image": {"MALIGNANT": 0.01}}, "", digest))
    run(workflow(input=path, calibration_file=str(tmp_path / "own.json"), num_pictures=0))
    (row,) = pd.read_csv(tmp_path / "predictions.csv").to_dict("records")
    assert row["prob_MALIGNANT"] == pytest.approx(1 / (1 + np.exp(0.5 - 0.3 * expected_logits(path))), rel=1e-4)
    assert row["called"] == "MALIGNANT"
    assert json.loads((tmp_path / "predictions.json").read_text())["bias"] == [-0.5]
    assert not list(tmp_path.glob("*.png"))


def test_files_that_cannot_be_used_are_rows_with_the_reason(workflow, folder, tmp_path):
    source = tmp_path / "in"
    crop = read_png16(load_split(folder / "data", "test")[0]["image"])
    write_png16(source / "crop.png", crop)
    write_png16(source / "mammogram.png", np.kron(crop, np.ones((5, 5), np.uint16)))
    (source / "broken.dcm").write_bytes(b"")
    run(workflow(input=str(source), output_dir=str(tmp_path / "out"), num_pictures=0))
    table = pd.read_csv(tmp_path / "out/predictions.csv").set_index("image")
    assert table["prob_MALIGNANT"].notna().to_dict() == {"crop.png": True, "broken.dcm": False, "mammogram.png": False}
    assert "whole mammogram" in table.loc["mammogram.png", "problem"]
    assert "is empty" in table.loc["broken.dcm", "problem"]


def test_a_larger_crop_is_reduced_and_its_middle_seen(workflow, folder, tmp_path):
    crop = read_png16(load_split(folder / "data", "test")[0]["image"])
    write_png16(tmp_path / "double.png", np.kron(np.pad(crop, 4, mode="edge"), np.ones((2, 2), np.uint16)))
    run(workflow(input=str(tmp_path / "double.png"), num_pictures=0))
    found = pd.read_csv(tmp_path / "predictions.csv")["prob_MALIGNANT"][0]
    # reducing is linear, not an exact mean, and noise of single pixels feels it
    expected = 1 / (1 + np.exp(-expected_logits(load_split(folder / "data", "test")[0]["image"])))
    assert found == pytest.approx(expected, abs=0.02)


def test_volumes(workflow, tmp_path):
    encoder = {**ENCODER, "img_size": [8, 8, 8], "patch_size": [4, 4, 4], "spatial_dims": 3}
    network = ViTClassifier(encoder, 1, "mean", head_std=0.5).eval()
    preprocessing = {**PREPROCESSING, "field_of_view": [16, 16, 16], "image_size": [8, 8, 8]}
    task = {"name": "pathology", "type": "binary", "classes": CLASSES}
    save_weights_file(tmp_path / "model.pt", classifier_content(network, task, preprocessing, {}))
    voxels = np.random.default_rng(0).integers(65536, size=(18, 16, 16)).astype(np.uint16)
    write_volume(tmp_path / "in.nii.gz", voxels, (1.0, 1.0, 1.0))
    run(workflow(input=str(tmp_path / "in.nii.gz"), model=str(tmp_path / "model.pt")))
    (found,) = pd.read_csv(tmp_path / "predictions.csv")["prob_MALIGNANT"]
    # the reader stretches between percentiles, which a value near the middle feels a little
    image = torch.from_numpy(voxels[1:17].astype(np.float32))[None, None] / 65535 * 4 - 2
    with torch.no_grad():
        expected = network(torch.nn.functional.avg_pool3d(image, 2)).sigmoid().item()
    assert found == pytest.approx(expected, abs=0.005)
    assert (tmp_path / "in.png").stat().st_size > 10_000
