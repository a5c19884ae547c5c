import io

import numpy as np
import pandas as pd
import pytest

from miram.errors import InputError
from miram.metrics.predictions import aggregate, read_predictions

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


NAN = np.nan
# Patient p: lesion 1 in two views, lesion 2 in one. Patient q: a lesion of the same name, and an image without one.
IDS = pd.DataFrame({"image": list("abcde"), "patient": list("pppqq"), "lesion": ["1", "1", "2", "1", None]})


def binary(labels, probabilities):
    return read_predictions(IDS.assign(label=labels, prob_m=probabilities), ["m"], "binary")


def test_views_are_averaged_and_lesions_maximised():
    images = binary([0, 0, 1, 0, 0], [0.2, 0.4, 0.9, 0.5, 0.1])
    assert aggregate(images, "image") is images
    lesions = aggregate(images, "lesion")
    assert lesions.units.tolist() == ["1", "2", "1", "e"]
    assert lesions.patients.tolist() == ["p", "p", "q", "q"]
    np.testing.assert_allclose(lesions.probabilities[:, 0], [0.3, 0.9, 0.5, 0.1])
    np.testing.assert_array_equal(lesions.labels[:, 0], [0, 1, 0, 0])
    patients = aggregate(images, "patient")
    assert patients.units.tolist() == patients.patients.tolist() == ["p", "q"]
    np.testing.assert_allclose(patients.probabilities[:, 0], [0.9, 0.5])
    np.testing.assert_array_equal(patients.labels[:, 0], [1, 0])
    # The mean is over lesions, not over images: lesion 1 of p counts once though it has two views.


def test_an_unknown_label_brings_its_probability_into_no_group_with_known_ones():
    images = binary([0, NAN, NAN, NAN, NAN], [0.2, 0.4, 0.9, 0.5, 0.1])
    lesions, patients = aggregate(images, "lesion"), aggregate(images, "patient")
    np.testing.assert_array_equal(lesions.labels[:, 0], [0, NAN, NAN, NAN])
    np.testing.assert_allclose(lesions.probabilities[:, 0], [0.2, 0.9, 0.5, 0.1])
    np.testing.assert_array_equal(patients.labels[:, 0], [0, NAN])
    np.testing.assert_allclose(patients.probabilities[:, 0], [0.2, 0.5])


def test_multilabel_takes_the_union_of_each_class():
    table = IDS.assign(
        label_x=[1, 0, 0, 0, 0], label_y=[NAN, 0, 0, 1, NAN], prob_x=0.5, prob_y=[0.1, 0.2, 0.3, 0.4, 0.5]
    )
    patients = aggregate(read_predictions(table, ["x", "y"], "multilabel"), "patient")
    np.testing.assert_array_equal(patients.labels, [[1, 0], [0, 1]])
    np.testing.assert_allclose(patients.probabilities[:, 1], [0.3, 0.4])


def test_multiclass_averages_and_a_patient_of_two_classes_is_unknown():
    table = IDS.assign(label=[0, 0, 1, 1, 1])
    table[["prob_x", "prob_y"]] = [[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.5, 0.5]]
    patients = aggregate(read_predictions(table, ["x", "y"], "multiclass"), "patient")
    np.testing.assert_array_equal(patients.labels, [[NAN, NAN], [0, 1]])
    np.testing.assert_allclose(patients.probabilities, [[0.4, 0.6], [0.4, 0.6]])


def test_a_bad_level_is_named():
    with pytest.raises(InputError, match="image, lesion, patient"):
        aggregate(binary([0, 0, 1, 0, 0], [0.5] * 5), "breast")
