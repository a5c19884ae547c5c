import numpy as np
import pandas as pd
import pytest

from miram.data.datalist import load_split, read_datalist
from miram.data.prediction_table import prediction_table, wrongness
from miram.data.tasks import Task, find_task
from miram.errors import InputError
from miram.metrics.predictions import read_predictions

from ..classifier_case import make_folder

DENSITY = Task("density", "multiclass", ("1", "2", "3"))


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, {"training": 1, "validation": 1, "test": 2})


def test_a_row_an_image_with_relative_paths_and_empty_unknown_labels(folder):
    task = find_task(read_datalist(folder), "pathology")
    items = load_split(folder, "test")
    table = prediction_table(items, np.array([[0.1], [0.2], [0.3], [0.4]]), task, folder)
    assert list(table.columns) == ["image", "patient", "lesion", "label_MALIGNANT", "prob_MALIGNANT"]
    assert table["image"].to_list() == [f"images/test_00{n}_{view}.png" for n in (0, 1) for view in ("CC", "MLO")]
    assert table["lesion"].to_list() == ["test0_1", "test0_1", "test1_1", "test1_1"]
    lines = table.to_csv(index=False).splitlines()
    assert lines[1].endswith(",0,0.1")
    assert lines[4].endswith(",,0.4")
    read = read_predictions(table, task.classes, task.type)
    np.testing.assert_array_equal(read.labels[:, 0], [0, 0, 1, np.nan])


@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (4,)])
def test_predictions_that_do_not_belong_to_the_labels_are_refused(folder, shape):
    task = find_task(read_datalist(folder), "pathology")
    with pytest.raises(InputError, match="do not match the 4 images and 1 classes"):
        prediction_table(load_split(folder, "test"), np.full(shape, 0.5), task, folder)


def test_a_prediction_that_is_no_number_is_refused(folder):
    task = find_task(read_datalist(folder), "pathology")
    with pytest.raises(InputError, match=r"test_000_MLO.png is not finite"):
        prediction_table(load_split(folder, "test"), np.array([[0.1], [np.nan], [0.3], [0.4]]), task, folder)


def test_wrongness_is_the_distance_from_the_label_and_right_or_unknown_ones_have_none():
    task = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
    table = pd.DataFrame({"label_MALIGNANT": [0, 1, None, 1], "prob_MALIGNANT": [0.3, 0.2, 0.9, 0.9]})
    found = wrongness(table, task, np.array([[True], [False], [True], [True]]))
    assert found.index.to_list() == [1, 0]
    np.testing.assert_allclose(found["error"], [0.8, 0.3])


def test_wrongness_of_several_classes():
    labels, values = {"1": [1, 0], "2": [0, 0], "3": [0, 1]}, {"1": [0.1, 0.2], "2": [0.7, 0.1], "3": [0.2, 0.7]}
    table = pd.DataFrame({f"label_{name}": column for name, column in labels.items()})
    table = table.assign(**{f"prob_{name}": column for name, column in values.items()})
    called = np.array([[0, 1, 0], [0, 0, 1]]) == 1
    multiclass = wrongness(table, DENSITY, called)
    np.testing.assert_allclose(multiclass["error"], [0.9])
    assert multiclass["column"].to_list() == [0]
    task = Task("m", "multilabel", DENSITY.classes)
    multilabel = wrongness(table.assign(label_1=[None, 0]), task, called)
    np.testing.assert_allclose(multilabel["error"], [0.7])
    assert multilabel["column"].to_list() == [1]
    missed = wrongness(table.assign(label_1=[None, 0]), task, np.zeros((2, 3), bool))
    assert (missed.index.to_list(), missed["column"].to_list()) == ([1], [2])  # the only label that is not called
