import numpy as np
import pytest

from miram.data.tasks import Task
from miram.handlers.inference_report import describe_prediction
from miram.inference.calibrated import Calibration

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
