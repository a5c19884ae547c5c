import numpy as np
import pytest
import torch
from scipy.special import logit

from miram.data.tasks import Task
from miram.engines.exam import ExamScores
from miram.handlers import exam_results
from miram.handlers.exam_results import result_tables
from miram.inference.examinations import ExamView
from miram.inference.exams import ExamModel

TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))


def view(name, patient, study, side, position):
    return ExamView(name, patient, study, side, position, torch.zeros(1, 4), None)


@pytest.fixture
def tables(monkeypatch):
    """Two examinations of one patient; the first has both breasts, their views mixed in the folder."""
    views = [
        view("/in/1.dcm", "patient_0001", "study_0001", "LEFT", "CC"),
        view("/in/2.dcm", "patient_0001", "study_0001", "RIGHT", None),
        view("/in/3.dcm", "patient_0001", "study_0001", "LEFT", "MLO"),
        view("/in/4.dcm", "patient_0001", "study_0002", "LEFT", "CC"),
    ]
    scores = ExamScores(logit(np.array([0.3, 0.75, 0.9])), [logit([0.1, 0.2]), logit([0.6]), logit([0.8])])
    monkeypatch.setattr(exam_results, "score_exams", lambda *given: scores)
    scaling = {"view": (1.0, 0.0), "breast": (1.0, 0.0)}
    model = ExamModel(None, None, TASK, scaling, {"breast": 0.75}, {}, {})
    return result_tables(model, views, ["1.dcm", "2.dcm", "3.dcm", "4.dcm"])


def test_a_breasts_row_names_its_views_and_the_highest_of_its_own_examination(tables):
    breasts, _ = tables
    assert breasts["laterality"].tolist() == ["LEFT", "RIGHT", "LEFT"]
    assert breasts["view_names"].tolist() == ["CC;MLO", "unknown", "CC"]
    assert breasts["images"].tolist() == ["1.dcm;3.dcm", "2.dcm", "4.dcm"]
    np.testing.assert_allclose(breasts["prob_MALIGNANT"], [0.3, 0.75, 0.9])
    np.testing.assert_allclose(breasts["prob_MALIGNANT_examination"], [0.75, 0.75, 0.9])
    assert breasts["examination"].tolist() == ["study_0001", "study_0001", "study_0002"]


def test_a_breast_at_the_operating_point_is_called(tables):
    breasts, _ = tables
    assert breasts["called"].tolist() == ["BENIGN", "MALIGNANT", "MALIGNANT"]


def test_views_are_in_the_order_of_the_folder(tables):
    _, views = tables
    assert views["image"].tolist() == ["1.dcm", "2.dcm", "3.dcm", "4.dcm"]
    assert views["laterality"].tolist() == ["LEFT", "RIGHT", "LEFT", "LEFT"]
    np.testing.assert_allclose(views["prob_MALIGNANT"], [0.1, 0.6, 0.2, 0.8])
