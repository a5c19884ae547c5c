"""From a prepared folder of views to a model, its evaluation, and a user's examination."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from miram.engines.exam import ExamTraining
from miram.errors import InputError
from miram.handlers.exam_report import JOINED
from miram.handlers.exam_results import run_exam_inference
from miram.handlers.exam_training import run_exam_training
from miram.inference.exams import load_exam
from miram.inference.mammograms import find_mammograms, smallest_size
from miram.inference.tiles import load_tile_encoder
from miram.prepare.prepared import write_png16

from ..classifier_case import make_classifier, save_model
from ..exam_case import make_backbone, make_view, make_views
from ..image_files import write_dicom

SETTINGS = ExamTraining(max_epochs=8, learning_rate=1e-2, hidden_size=16, attention_size=8)
FEW = {"n_resamples": 50, "min_patients": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam")
    torch.manual_seed(0)
    encoder = load_tile_encoder(make_backbone(folder / "backbone.pt"), "cpu")
    make_views(folder / "views", {"training": 12, "validation": 6, "test": 8})
    run_exam_training(folder / "views", folder / "run", "pathology", encoder, SETTINGS, 0, FEW, "images")
    return folder


def test_views_breasts_and_patients_are_evaluated_on_the_test_split(run: Path):
    content = json.loads((run / "run/metrics.json").read_text())
    assert content["evaluated"] == "test"
    assert {level: report["counts"]["units"] for level, report in content["levels"].items()} == {
        "view": 19,
        "breast": 11,
        "patient": 8,
    }
    assert content["levels"]["breast"]["metrics"]["auc"]["overall"]["value"] > 0.9
    assert content["comparison"]["breasts"] == 8
    breasts = pd.read_csv(run / "run/breasts.csv")
    assert breasts["views"].tolist()[:2] == [2, 1]
    assert "mean over views" in (run / "run/report.html").read_text()


def test_cross_validation_predicts_each_breast_once(run: Path, tmp_path):
    encoder = load_tile_encoder(run / "backbone.pt", "cpu")
    run_exam_training(run / "views", tmp_path, "pathology", encoder, SETTINGS, 2, FEW, "images")
    breasts = pd.read_csv(tmp_path / "breasts.csv")
    assert breasts["breast"].is_unique
    assert len(breasts) == 18 + 6  # 18 patients' left breasts, and six right ones
    assert not breasts["patient"].str.startswith("test").any()
    assert "2-fold" in json.loads((tmp_path / "metrics.json").read_text())["evaluated"]


def test_the_largest_value_of_a_risk_map_is_compared(run: Path, tmp_path):
    save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    encoder = load_tile_encoder(run / "backbone.pt", "cpu")
    run_exam_training(
        run / "views", tmp_path, "pathology", encoder, SETTINGS, 0, FEW, "images", risk_model=tmp_path / "model.pt"
    )
    compared = json.loads((tmp_path / "metrics.json").read_text())["comparison"]
    assert f"{JOINED} minus largest value of the risk map" in compared["difference"]
    assert pd.read_csv(tmp_path / "breasts.csv")["risk_map"].between(0, 1).all()


def judge(run: Path, source: Path, output: Path, **options):
    """Inference as exam_inference.yaml does it."""
    model = load_exam(run / "run/exam.pt", "cpu")
    smallest = smallest_size(model.encoder.field_of_view, model.prepared)
    run_exam_inference(find_mammograms(source, workers=0, smallest_view=smallest), output, model, **options)


def test_four_dicom_views_become_a_row_a_breast_and_pictures(run: Path, tmp_path):
    rng = np.random.default_rng(5)
    (tmp_path / "in").mkdir()
    for side in "LR":
        for view in ("CC", "MLO"):
            pixels = make_view(side == "R", rng)
            header = {"ImageLaterality": side, "ViewPosition": view, "PatientID": "SECRET", "StudyInstanceUID": "1.2.3"}
            write_dicom(tmp_path / f"in/{side}{view}.dcm", pixels, **header)
    write_png16(tmp_path / "in/crop.png", make_view(True, rng)[30:60, :40])
    judge(run, tmp_path / "in", tmp_path / "out")
    breasts = pd.read_csv(tmp_path / "out/breasts.csv").set_index("laterality")
    assert breasts["patient"].tolist() == ["patient_0001"] * 2
    assert breasts["view_names"].tolist() == ["CC;MLO"] * 2
    assert breasts.loc["RIGHT", "prob_MALIGNANT"] > breasts.loc["LEFT", "prob_MALIGNANT"]
    assert breasts["prob_MALIGNANT_examination"].tolist() == [breasts.loc["RIGHT", "prob_MALIGNANT"]] * 2
    views = pd.read_csv(tmp_path / "out/views.csv").set_index("image")
    assert "looks like a crop" in views.loc["crop.png", "problem"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "LCC.png",
        "LMLO.png",
        "RCC.png",
        "RMLO.png",
    ]
    assert not any(b"SECRET" in path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_a_prepared_view_gets_the_probability_of_the_evaluation(run: Path, tmp_path):
    image = run / "views/images/test0_RIGHT_CC.png"
    judge(run, image, tmp_path, num_pictures=0)
    expected = pd.read_csv(run / "run/views.csv").set_index("image").loc[image.name, "prob_MALIGNANT"]
    assert pd.read_csv(tmp_path / "views.csv")["prob_MALIGNANT"][0] == pytest.approx(expected, abs=1e-5)


def test_another_file_is_no_model_of_examinations(run: Path):
    with pytest.raises(InputError, match=r"exam.yaml.*inference.yaml"):
        load_exam(run / "backbone.pt", "cpu")
