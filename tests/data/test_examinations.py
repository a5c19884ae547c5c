from pathlib import Path

import numpy as np
import pytest

from miram.data.examinations import check_views, group_breasts, view_label
from miram.data.tasks import Task
from miram.errors import InputError

from ..exam_case import make_views

TASK = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))


def view(patient="p", side="LEFT", lesions=(), **more):
    return {"image": f"{patient}_{side}.png", "patient": patient, "laterality": side, "lesions": lesions, **more}


def lesions(*pathologies):
    return [{"lesion": None, "pathology": pathology} for pathology in pathologies]


def test_a_view_is_as_bad_as_its_worst_lesion():
    views = [
        view(lesions=lesions("BENIGN", "MALIGNANT")),
        view(lesions=lesions("BENIGN_WITHOUT_CALLBACK", "BENIGN")),
        view(lesions=[]),
        view(lesions=lesions("BENIGN", None)),
        view(lesions=None),
        view() | {"pathology": "MALIGNANT"},
    ]
    np.testing.assert_array_equal([view_label(one, TASK) for one in views], [1, 0, 0, np.nan, np.nan, 1])


def test_a_breast_is_its_patients_views_of_one_side_and_study():
    views = [
        view(side="LEFT", lesions=lesions("BENIGN")),
        view(side="RIGHT", lesions=lesions("BENIGN")),
        view(side="LEFT", lesions=lesions("MALIGNANT")),
        view("q", side="LEFT", lesions=None),
        view("q", side="LEFT", lesions=[], study="2"),
    ]
    breasts = group_breasts(views, TASK)
    assert [breast.name for breast in breasts] == ["p/LEFT", "p/RIGHT", "q/LEFT", "q/2/LEFT"]
    assert [len(breast.views) for breast in breasts] == [2, 1, 1, 1]
    np.testing.assert_array_equal([breast.label for breast in breasts], [1, 0, np.nan, 0])


def test_views_of_unknown_side_stay_alone_and_are_counted(caplog):
    breasts = group_breasts([view(side=None), view(side=None) | {"image": "other.png"}], TASK)
    assert len(breasts) == 2
    assert "2 of 2 views have no laterality" in caplog.text


def test_crops_are_refused_and_told_where_to_go(tmp_path: Path):
    make_views(tmp_path / "views", {"training": 2})
    assert check_views(tmp_path / "views", "pathology") == TASK
    make_views(tmp_path / "crops", {"training": 2}, crops="lesion")
    with pytest.raises(InputError, match=r"holds crops \(lesion\).*--crops whole.*finetune.yaml"):
        check_views(tmp_path / "crops", "pathology")
