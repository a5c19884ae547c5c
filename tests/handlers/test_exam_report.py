import pandas as pd
import pytest

from miram.data.tasks import Task
from miram.handlers.exam_report import JOINED, MEAN, ONE_VIEW, ExamEvaluation, compare_views, describe_comparison
from miram.metrics.bootstrap import Bootstrap

TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
FEW = Bootstrap(n_resamples=50, min_patients=2)


def make_evaluation(joined, first, last):
    """Four breasts, the last two malignant, with these probabilities: joined, in CC, in MLO. A fifth has one view."""
    names = ["a", "b", "c", "d"]
    breasts = {"image": [*names, "e"], "patient": [*names, "e"], "views": [2, 2, 2, 2, 1]}
    views = [(name, "MLO", value) for name, value in zip(names, last, strict=True)]
    views += [(name, "CC", value) for name, value in zip(names, first, strict=True)]
    return ExamEvaluation(
        "test",
        pd.DataFrame(views, columns=["lesion", "view", "prob_MALIGNANT"]),
        pd.DataFrame({**breasts, "label_MALIGNANT": [0, 0, 1, 1, 0], "prob_MALIGNANT": [*joined, 0.99]}),
        {"view": 0.5, "breast": 0.5, "patient": 0.5},
    )


def test_the_joined_probability_is_compared_with_each_view_and_their_mean():
    right, wrong = [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1]
    found = compare_views(make_evaluation(joined=right, first=wrong, last=[0.1, 0.9, 0.8, 0.2]), TASK, FEW)
    assert found["breasts"] == 4  # the one with a single view does not count
    auc = {name: value["value"] for name, value in found["auc"].items()}
    # the means are 0.5, 0.85, 0.5 and 0.15: one tie in four pairs
    assert auc == pytest.approx(
        {JOINED: 1.0, MEAN: 0.125, "first view alone": 0.0, "last view alone": 0.5, ONE_VIEW: 0.25}
    )
    differences = {f"{JOINED} minus {name}": 1.0 - value for name, value in auc.items() if name != JOINED}
    assert {name: value["value"] for name, value in found["difference"].items()} == pytest.approx(
        differences | {f"{MEAN} minus {ONE_VIEW}": 0.125 - 0.25}
    )


def test_one_class_of_breasts_with_several_views_is_not_compared():
    evaluation = make_evaluation(*[[0.1, 0.2, 0.8, 0.9]] * 3)
    evaluation.breasts["label_MALIGNANT"] = [0, 0, 0, 0, 1]
    assert compare_views(evaluation, TASK, FEW) == {}
    assert "too few breasts" in describe_comparison({})["not compared"]
