import numpy as np
import pandas as pd
import pytest
import torch

from miram.data.tasks import Task
from miram.handlers.cases import call_direction, draw_most_wrong, explained_case
from miram.inference.calibrated import Calibration
from miram.inference.classifying import load_trained

from ..classifier_case import make_classifier, save_model


def test_the_map_is_of_what_was_called():
    binary, margins = Task("p", "binary", ("no", "yes")), Task("m", "multilabel", ("a", "b", "c"))
    calibration = Calibration(thresholds={"image": {"a": 0.1, "b": 0.5, "c": 0.5, "yes": 0.7}})
    assert call_direction(np.array([0.8]), binary, calibration).tolist() == [1]
    assert call_direction(np.array([0.6]), binary, calibration).tolist() == [-1]
    assert call_direction(np.array([0.2, 0.4, 0.6]), margins, calibration).tolist() == [1, 0, 1]
    assert call_direction(
        np.array([0.2, 0.5, 0.3]), Task("d", "multiclass", ("a", "b", "c")), calibration
    ).tolist() == [
        0,
        1,
        0,
    ]


def test_a_case_of_a_volume_is_the_slice_where_the_map_is_hottest(tmp_path, monkeypatch):
    path = save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    trained = load_trained(path)
    heat = torch.zeros(1, 2, 2, 3)
    heat[0, 1, 1, 2] = 1
    monkeypatch.setattr("miram.handlers.cases.attention_maps", lambda *arguments: heat)
    volume = torch.arange(6.0).expand(1, 1, 4, 4, 6)
    case = explained_case(volume, trained, np.array([0.9]), Calibration(), "relevance", "title", "caption")
    assert np.unique(case.image).tolist() == [5.0]
    assert case.heat.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("threshold", "drawn", "count"),
    [(0.5, ["2", "1"], "2 of 2"), (0.25, ["2", "1", "3"], "3 of 4"), (0.62, ["2"], "1 of 1")],
)
def test_only_wrong_predictions_are_drawn_and_the_title_says_how_many(tmp_path, monkeypatch, threshold, drawn, count):
    path = save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    labels, values = [0, 0, 0, 0, 1, 1], [0.3, 0.6, 0.65, 0.4, 0.9, 0.8]
    table = pd.DataFrame({"label_MALIGNANT": labels, "prob_MALIGNANT": values})
    table["image"] = [f"images/{number}.png" for number in range(6)]
    sheets = []
    monkeypatch.setattr("miram.handlers.cases.plot_contact_sheet", lambda *arguments: sheets.append(arguments))
    calibration = Calibration(thresholds={"image": {"MALIGNANT": threshold}})
    dataset = [{"image": torch.zeros(1, 16, 16)}] * 6
    (picture,) = draw_most_wrong(tmp_path, table, load_trained(path), dataset, calibration, torch.device("cpu"), 3)
    cases, _, title, _ = sheets[0]
    assert [case.caption for case in cases] == drawn
    assert title.endswith(count)
    assert picture.caption.startswith(title)


def test_without_a_wrong_prediction_there_is_no_picture_also_none_of_an_earlier_run(tmp_path):
    path = save_model(tmp_path / "model.pt", make_classifier(), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    table = pd.DataFrame({"image": ["images/1.png"], "label_MALIGNANT": [1], "prob_MALIGNANT": [0.6]})
    (tmp_path / "most_wrong.png").touch()
    assert draw_most_wrong(tmp_path, table, load_trained(path), [], Calibration(), torch.device("cpu")) == []
    assert not (tmp_path / "most_wrong.png").exists()
