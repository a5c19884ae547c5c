import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from sklearn.metrics import roc_auc_score

from miram.data.datalist import load_split
from miram.data.tasks import Task
from miram.errors import InputError
from miram.handlers.collect_predictions import CalibrationHandler, PredictionCollector
from miram.handlers.evaluation_report import EvaluationHandler
from miram.inference.calibrated import Calibration
from miram.inference.classifying import Probabilitiesd, items_of_task, load_trained

from ..classifier_case import as_input, make_classifier, make_crop, make_folder, save_model

TASKS = {
    "pathology": ("binary", ["BENIGN", "MALIGNANT"], 1),
    "density": ("multiclass", ["1", "2", "3", "4"], 4),
    "mass_margins": ("multilabel", ["CIRCUMSCRIBED", "OBSCURED", "SPICULATED"], 3),
}
CPU = torch.device("cpu")


class Images(Dataset):
    """Samples as the configs make them."""

    def __init__(self, items):
        rng = np.random.default_rng(0)
        # every third image looks like the other class
        malignant = [(item["pathology"] == "MALIGNANT") != (index % 3 == 0) for index, item in enumerate(items)]
        crops = [make_crop(square, (1, 2), rng) for square in malignant]
        super().__init__([{"image": image, "index": index} for index, image in enumerate(as_input(crops))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), {"training": 1, "validation": 8, "test": 24})


def evaluate(folder, output, name="pathology", split="test", calibration=None, **arguments):
    """Run an evaluator with the handler, on images of a trained network."""
    task_type, classes, count = TASKS[name]
    trained = load_trained(save_model(output / "model.pt", make_classifier(count, steps=8), name, task_type, classes))
    items = items_of_task(trained, folder, split)
    images, calibration = Images(items), calibration or Calibration(model_sha256=trained.sha256)
    metrics = {"n_resamples": 50, "min_patients": 5}
    values = {"metrics": metrics, "calibration": calibration, **arguments}
    handler = EvaluationHandler(output, trained, items, images, str(folder), split, **values)
    SupervisedEvaluator(
        CPU,
        DataLoader(images, batch_size=5),
        trained.network,
        postprocessing=Probabilitiesd("pred", trained.task, calibration),
        val_handlers=[handler],
    ).run()
    return trained, items, images


def test_predictions_and_metrics_are_those_of_the_network(folder, tmp_path):
    trained, items, images = evaluate(folder, tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv")
    with torch.no_grad():
        logits = trained.network(torch.stack([sample["image"] for sample in images.data]))
    np.testing.assert_allclose(table["prob_MALIGNANT"], logits.sigmoid()[:, 0], rtol=1e-4)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    known = table["label_MALIGNANT"].notna()
    expected = roc_auc_score(table["label_MALIGNANT"][known], table["prob_MALIGNANT"][known])
    auc = metrics["levels"]["image"]["metrics"]["auc"]["overall"]
    assert auc["value"] == pytest.approx(expected, abs=1e-6)
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert metrics["data"]["images"] == len(items) == 48
    assert metrics["levels"]["image"]["counts"]["units_without_label"] == 1
    assert metrics["model"]["sha256"] == trained.sha256
    assert metrics["demonstration"] is True
    assert len(metrics["data"]["datalist_sha256"]) == 64


@pytest.mark.parametrize("name", list(TASKS))
def test_every_kind_of_task_gets_its_pictures_and_a_report(folder, tmp_path, name):
    evaluate(folder, tmp_path, name, num_cases=3)
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"roc.png", "precision_recall.png", "calibration.png", "confusion.png", "most_wrong.png"}
    report = (tmp_path / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 5
    assert "A demonstration on generated data" in report
    assert "squares" in report


def test_the_report_says_that_no_prediction_is_wrong(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("miram.handlers.evaluation_report.draw_most_wrong", lambda *arguments: [])
    evaluate(folder, tmp_path)
    assert "No prediction is wrong" in (tmp_path / "report.html").read_text()


def test_the_operating_point_and_the_scaling_are_those_given(folder, tmp_path):
    calibration = Calibration(
        [0.5], [1.0], "fitted", {level: {"MALIGNANT": 0.0} for level in ("image", "lesion", "patient")}
    )
    evaluate(folder, tmp_path, calibration=calibration, num_cases=0)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["levels"]["image"]["metrics"]["sensitivity"]["overall"]["value"] == 1
    assert metrics["levels"]["image"]["metrics"]["specificity"]["overall"]["value"] == 0
    assert (metrics["calibration"]["scale"], metrics["calibration"]["bias"]) == ([0.5], [1.0])
    assert not (tmp_path / "most_wrong.png").exists()


@pytest.mark.parametrize(("split", "optimistic"), [("validation", True), ("test", False)])
def test_figures_of_the_validation_split_are_said_to_be_optimistic(folder, tmp_path, split, optimistic):
    evaluate(folder, tmp_path, split=split, num_cases=0)
    notes = json.loads((tmp_path / "metrics.json").read_text())["notes"]
    assert any("too optimistic" in note for note in notes) == optimistic


def test_pretraining_on_test_patients_is_said_also_if_it_only_began_with_such_weights(folder, tmp_path):
    trained, items, images = evaluate(folder, tmp_path, num_cases=0)
    for seen, begun in ((0, False), (40, False), (0, True), (40, True)):
        pretrained = {"test_images": seen}
        if begun:
            pretrained = {"test_images": 0, "initial_weights": {"provenance": pretrained}}
        known = dataclasses.replace(trained, provenance={"pretrained_provenance": pretrained})
        handler = EvaluationHandler(tmp_path, known, items, images, str(folder), "test", Calibration())
        assert any("40 images of test patients" in note for note in handler._notes()) == bool(seen)


def test_calibration_is_fitted_on_the_logits_of_its_items(folder):
    task = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
    items = load_split(folder, "validation")
    images, network = Images(items), make_classifier()
    calibration, expected = Calibration(), Calibration()
    handler = CalibrationHandler(calibration, items, task, str(folder))
    SupervisedEvaluator(CPU, DataLoader(images, batch_size=3), network, val_handlers=[handler]).run()
    with torch.no_grad():
        logits = network(torch.stack([sample["image"] for sample in images.data])).numpy()
    expected.fit(items, logits, task, folder)
    assert calibration.scale == pytest.approx(expected.scale, rel=1e-4)  # a search
    assert calibration.bias == pytest.approx(expected.bias, abs=1e-4)
    assert calibration.thresholds["image"]["MALIGNANT"] == pytest.approx(
        expected.thresholds["image"]["MALIGNANT"], rel=1e-4
    )


def test_a_missing_prediction_is_an_error():
    collector = PredictionCollector(3)
    collector.found = {0: np.zeros(1), 2: np.zeros(1)}
    with pytest.raises(InputError, match="do not match 3 images: the prediction for image number 1 is missing"):
        collector.table()
