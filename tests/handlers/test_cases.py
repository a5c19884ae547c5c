import numpy as np
import torch

from miram.data.tasks import Task
from miram.handlers.cases import call_direction, explained_case
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
