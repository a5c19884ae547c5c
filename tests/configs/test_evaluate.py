"""configs/evaluate.yaml as a user runs it."""

import json
import os
import subprocess
import sys
from functools import partial
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch

from miram.data.datalist import load_split
from miram.errors import InputError
from miram.prepare.prepared import read_png16

from ..causes import cause_of
from ..classifier_case import as_input, make_classifier, make_folder, save_model
from .conftest import run

CLASSES = ["BENIGN", "MALIGNANT"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """32 test patients, and a classifier that has begun to learn."""
    path = tmp_path_factory.mktemp("evaluate")
    make_folder(path / "data", {"training": 1, "validation": 8, "test": 32})
    save_model(path / "runs/finetune_pathology/model.pt", make_classifier(steps=8), "pathology", "binary", CLASSES)
    return path


@pytest.fixture
def workflow(inferring, folder, tmp_path):
    paths = {"dataset_dir": str(folder / "data"), "runs_dir": str(folder / "runs"), "output_dir": str(tmp_path)}
    return partial(inferring, "evaluate", **paths, num_workers=0, n_resamples=50, num_cases=3)


def test_what_a_monai_user_looks_for_is_where_monai_says(workflow):
    made = workflow()
    made.initialize()
    missing = set(made.check_properties())
    # the metadata of the bundle are another file's
    assert missing <= {"version", "monai_version", "pytorch_version", "numpy_version"}


def test_predictions_are_those_of_the_network_with_the_fitted_scaling(workflow, folder, tmp_path):
    run(workflow())
    items = load_split(folder / "data", "test")
    network = make_classifier(steps=8)
    with torch.no_grad():
        logits = network(as_input([read_png16(item["image"]) for item in items]))[:, 0]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (scale,), (bias,) = metrics["calibration"]["scale"], metrics["calibration"]["bias"]
    assert scale != 1
    table = pd.read_csv(tmp_path / "predictions.csv")
    np.testing.assert_allclose(table["prob_MALIGNANT"], (logits * scale + bias).sigmoid(), rtol=1e-3)
    thresholds = metrics["calibration"]["thresholds"]
    assert metrics["levels"]["lesion"]["thresholds"] == thresholds["lesion"]
    assert {"miram", "commit", "libraries", "config_sha256"} <= metrics["provenance"].keys()
    assert (
        metrics["provenance"]["config_sha256"] == sha256((tmp_path / "executed_config.yaml").read_bytes()).hexdigest()
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "predictions.csv",
        "metrics.json",
        "calibration.json",
        "report.html",
        "executed_config.yaml",
        ".lock",
        *(f"{name}.png" for name in ("roc", "precision_recall", "calibration", "confusion", "most_wrong")),
    }


def test_flips_and_no_calibration(workflow, folder, tmp_path):
    run(workflow(test_time_flips="True", calibrate="False"))
    image = as_input([read_png16(load_split(folder / "data", "test")[0]["image"])])
    network = make_classifier(steps=8)
    with torch.no_grad():
        versions = [one.rot90(quarters, (2, 3)) for one in (image, image.flip(3)) for quarters in range(4)]
        logits = sum(network(version) for version in versions) / 8
    found = pd.read_csv(tmp_path / "predictions.csv")["prob_MALIGNANT"][0]
    assert found == pytest.approx(logits.sigmoid().item(), rel=1e-3)
    assert json.loads((tmp_path / "metrics.json").read_text())["calibration"]["scale"] == []


def test_without_a_validation_split_nothing_is_fitted_and_the_report_says_so(workflow, folder, tmp_path):
    data = make_folder(tmp_path / "data", {"training": 1, "validation": 0, "test": 12})
    run(workflow(dataset_dir=str(data), output_dir=str(tmp_path / "out")))
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["calibration"]["scale"] == []
    assert any("0.5, not chosen" in note for note in metrics["notes"])
    auc = metrics["levels"]["image"]["metrics"]["auc"]["overall"]
    assert auc["low"] is None
    assert "too small for an interval" in auc["reason"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": "none.pt"}, "there is no trained model none.pt"),
        (
            {"task": "mass_margins", "model": "$@runs_dir + '/finetune_pathology/model.pt'"},
            "model for the task 'pathology'",
        ),
        ({"split": "tests"}, "split 'tests' is not one of"),
        ({"dataset_dir": "nowhere"}, "there is no nowhere/datalist.json"),
        ({"threshold_rule": "luck"}, "threshold rule is 'luck'"),
    ],
)
def test_bad_input_is_an_input_error(workflow, overrides, message):
    with pytest.raises((InputError, RuntimeError)) as caught:  # MONAI wraps what goes wrong in a component
        run(workflow(**overrides))
    assert message in cause_of(caught.value)


def test_the_command_a_user_types_ends_bad_input_with_one_line(repository, folder, tmp_path):
    arguments = [
        "--config_file",
        "configs/evaluate.yaml",
        "--runs_dir",
        str(tmp_path),
        "--dataset_dir",
        str(folder / "data"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "evaluating", *arguments],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: there is no trained model {tmp_path}/finetune_pathology/model.pt: train one first")
    assert not (tmp_path / "evaluate_pathology/metrics.json").exists()
