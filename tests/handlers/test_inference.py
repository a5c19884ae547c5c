import numpy as np
import pytest

from miram.data.tasks import Task
from miram.engines.calibration import Calibration
from miram.handlers.inference import describe_prediction, picture_name

CALIBRATION = Calibration(thresholds={"image": {"MALIGNANT": 0.3, "a": 0.2}})


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        (Task("p", "binary", ("BENIGN", "MALIGNANT")), [0.3], {"prob_MALIGNANT": 0.3, "called": "MALIGNANT"}),
        (Task("p", "binary", ("BENIGN", "MALIGNANT")), [0.29], {"prob_MALIGNANT": 0.29, "called": "BENIGN"}),
        (Task("d", "multiclass", ("a", "b")), [0.4, 0.6], {"prob_a": 0.4, "prob_b": 0.6, "called": "b"}),
        (Task("m", "multilabel", ("a", "b")), [0.3, 0.6], {"prob_a": 0.3, "prob_b": 0.6, "called": "a;b"}),
        (Task("m", "multilabel", ("a", "b")), [0.1, 0.4], {"prob_a": 0.1, "prob_b": 0.4, "called": ""}),
    ],
)
def test_what_is_called_follows_the_operating_point(task, values, expected):
    assert describe_prediction(np.array(values), task, CALIBRATION) == expected


def test_each_image_has_a_picture_of_its_own():
    names = ["a.png", "a.dcm", "b/a.png", "b a:1.png"]
    assert [picture_name(name) for name in names] == ["a.png.png", "a.dcm.png", "b__a.png.png", "b_a_1.png.png"]
