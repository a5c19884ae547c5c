import numpy as np
import pandas as pd
import pytest

from miram.errors import InputError
from miram.metrics.aggregate import aggregate
from miram.metrics.predictions import read_predictions

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
    np.testing.assert_allclose(aggregate(images, "patient", "mean").probabilities[:, 0], [0.6, 0.3])


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
