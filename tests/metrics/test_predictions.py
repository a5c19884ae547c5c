import io

import numpy as np
import pandas as pd
import pytest

from miram.errors import InputError
from miram.metrics.predictions import read_predictions

BINARY = pd.DataFrame(
    {
        "image": ["a", "b", "c"],
        "patient": [1, 1, 2],
        "lesion": ["x", None, "y"],
        "label": [1, 0, None],
        "prob_malignant": [0.9, 0.2, 0.5],
    }
)
CLASSES = ["benign", "malignant"]


def test_binary_takes_the_last_class_and_lets_an_image_stand_for_its_lesion():
    predictions = read_predictions(BINARY, CLASSES, "binary")
    assert predictions.classes == ("malignant",)
    np.testing.assert_array_equal(predictions.labels, [[1], [0], [np.nan]])
    np.testing.assert_array_equal(predictions.probabilities, [[0.9], [0.2], [0.5]])
    assert predictions.lesions.tolist() == ["x", "b", "y"]
    assert predictions.patients.tolist() == ["1", "1", "2"]
    np.testing.assert_array_equal(predictions.labelled, [True, True, False])


def test_a_csv_round_trip_changes_nothing():
    read = pd.read_csv(io.StringIO(BINARY.to_csv(index=False)))
    one, other = read_predictions(BINARY, CLASSES, "binary"), read_predictions(read, CLASSES, "binary")
    for name in ("units", "patients", "lesions", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_multiclass_labels_come_by_index_or_one_hot():
    table = pd.DataFrame({"image": ["a", "b"], "patient": ["p", "q"], "label": [2, None]})
    table[["prob_x", "prob_y", "prob_z"]] = [[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]]
    one_hot = table.drop(columns="label").assign(label_x=[0, None], label_y=[0, None], label_z=[1, None])
    for frame in (table, one_hot):
        labels = read_predictions(frame, ["x", "y", "z"], "multiclass").labels
        np.testing.assert_array_equal(labels, [[0, 0, 1], [np.nan] * 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": ["a", "a", "c"]}, "'a' has several predictions"),
        ({"patient": [1, None, 2]}, "row 1 .* has no patient"),
        ({"label": [1, 2, 0]}, "label of image 'b' is 2"),
        ({"label": ["M", "B", "B"]}, "must hold numbers"),
        ({"label": [None, None, None]}, "none of the 3 predictions has a known label"),
        ({"prob_malignant": [0.9, 1.2, 0.5]}, "image 'b'.*0 to 1"),
        ({"prob_malignant": [0.9, None, 0.5]}, "image 'b'.*0 to 1"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        read_predictions(BINARY.assign(**change), CLASSES, "binary")


@pytest.mark.parametrize("column", ["image", "patient", "label", "prob_malignant"])
def test_a_missing_column_is_named(column):
    with pytest.raises(InputError, match=column):
        read_predictions(BINARY.drop(columns=column), CLASSES, "binary")


def test_bad_multiclass_rows_are_named():
    table = pd.DataFrame(
        {"image": ["a"], "patient": ["p"], "label_x": [1], "label_y": [1], "prob_x": 0.5, "prob_y": 0.5}
    )
    with pytest.raises(InputError, match="exactly one class"):
        read_predictions(table, ["x", "y"], "multiclass")
    with pytest.raises(InputError, match=r"sum to 1\.4000"):
        read_predictions(table.assign(label_y=0, prob_x=0.9), ["x", "y"], "multiclass")


@pytest.mark.parametrize(
    ("classes", "task_type", "message"),
    [
        (CLASSES, "regression", "binary, multiclass, multilabel"),
        (["a", "b", "c"], "binary", "do not fit a binary task"),
        (["a", "a"], "multilabel", "each class once"),
    ],
)
def test_bad_tasks_are_named(classes, task_type, message):
    with pytest.raises(InputError, match=message):
        read_predictions(BINARY, classes, task_type)
