import numpy as np
import pytest

from miram.data.tasks import Task, applicable_items, class_counts, find_task, targets, task_names, unknown_count
from miram.errors import InputError

MASS = {
    "image": "a.png",
    "patient": "p0",
    "abnormality": "mass",
    "pathology": "MALIGNANT",
    "mass_margins": ["SPICULATED", "OBSCURED"],
    "calc_type": None,
    "density": 3,
    "grade": "2",
}
CALCIFICATION = {
    "image": "b.png",
    "patient": "p1",
    "abnormality": "calcification",
    "pathology": "BENIGN_WITHOUT_CALLBACK",
    "mass_margins": None,
    "calc_type": ["PLEOMORPHIC"],
    "density": None,
    "grade": None,
}
TISSUE = {"image": "c.png", "patient": "p1", "crop": "tissue", "density": 2}
DATALIST = {
    "name": "test set",
    "label_names": {
        "pathology": ["BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"],
        "abnormality": ["calcification", "mass"],
        "mass_margins": ["CIRCUMSCRIBED", "OBSCURED", "SPICULATED"],
        "calc_type": ["PLEOMORPHIC", "PUNCTATE"],
        "density": [1, 2, 3, 4],
        "grade": ["1", "2", "10"],
        "scanner": ["A"],
    },
    "training": [MASS, CALCIFICATION, TISSUE],
    "validation": [],
    "test": [],
}
LESIONS = [MASS, CALCIFICATION]


@pytest.mark.parametrize(
    ("name", "task_type", "classes"),
    [
        ("pathology", "binary", ("BENIGN", "MALIGNANT")),
        ("pathology3", "multiclass", ("BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT")),
        ("abnormality", "binary", ("calcification", "mass")),
        ("mass_margins", "multilabel", ("CIRCUMSCRIBED", "OBSCURED", "SPICULATED")),
        ("calc_type", "multilabel", ("PLEOMORPHIC", "PUNCTATE")),
        ("density", "multiclass", ("1", "2", "3", "4")),
        ("grade", "multiclass", ("1", "2", "10")),
    ],
)
def test_tasks_are_found_by_name(name, task_type, classes):
    assert find_task(DATALIST, name) == Task(name, task_type, classes)


def test_an_absent_task_lists_those_that_are_there():
    with pytest.raises(InputError, match=r"'test set' has no task 'margins'; it has pathology, .*scanner, pathology3"):
        find_task(DATALIST, "margins")
    with pytest.raises(InputError, match="it has none: prepare the folder with a CSV"):
        find_task({"training": []}, "pathology")


def test_a_task_of_one_class_is_refused():
    with pytest.raises(InputError, match=r"'scanner' has only one class, \['A'\]"):
        find_task(DATALIST, "scanner")


def test_own_pathology_classes_stay_as_they_are():
    own = {"label_names": {"pathology": ["benign", "malignant"]}, "training": [], "validation": [], "test": []}
    assert find_task(own, "pathology") == Task("pathology", "binary", ("benign", "malignant"))
    assert task_names(own) == ["pathology"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pathology", [[1], [0]]),
        ("pathology3", [[0, 0, 1], [0, 1, 0]]),
        ("abnormality", [[1], [0]]),
        ("mass_margins", [[0, 1, 1], [np.nan] * 3]),
        ("density", [[0, 0, 1, 0], [np.nan] * 4]),
        ("grade", [[0, 1, 0], [np.nan] * 3]),
    ],
)
def test_targets(name, expected):
    np.testing.assert_array_equal(targets(LESIONS, find_task(DATALIST, name)), np.array(expected, dtype=float))


def test_a_label_that_is_no_class_is_named_with_its_image():
    task = Task("pathology", "binary", ["BENIGN", "MALIGNANT"])
    assert task.classes == ("BENIGN", "MALIGNANT")  # a list, as model.pt holds it
    with pytest.raises(InputError, match=r"d\.png: pathology \['MALIGN'\] is not a class"):
        targets([{"image": "d.png", "pathology": "MALIGN"}], task)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("pathology", ["a.png", "b.png"]),
        ("mass_margins", ["a.png"]),
        ("calc_type", ["b.png"]),
        ("density", ["a.png", "c.png"]),  # no calcification here has one
    ],
)
def test_items_that_cannot_have_a_label_are_not_applicable(name, images):
    task = find_task(DATALIST, name)
    assert [item["image"] for item in applicable_items(DATALIST["training"], task)] == images


def test_counts():
    assert class_counts(LESIONS, find_task(DATALIST, "pathology")) == {"BENIGN": 1, "MALIGNANT": 1}
    assert class_counts(LESIONS, find_task(DATALIST, "density")) == {"1": 0, "2": 0, "3": 1, "4": 0}
    margins = find_task(DATALIST, "mass_margins")
    assert class_counts(LESIONS, margins) == {"CIRCUMSCRIBED": 0, "OBSCURED": 1, "SPICULATED": 1}
    assert unknown_count(LESIONS, margins) == 1


def test_crops_of_lesions_and_of_tissue_are_a_task_of_their_own():
    lesion, tissue = MASS | {"crop": "lesion"}, TISSUE
    datalist = DATALIST | {"training": [lesion, tissue]}
    assert "lesion" in task_names(datalist)
    task = find_task(datalist, "lesion")
    assert task == Task("lesion", "binary", ("tissue", "lesion"))
    items = applicable_items([lesion, tissue], task)
    np.testing.assert_array_equal(targets(items, task), [[1], [0]])


def test_the_task_of_lesions_needs_crops_of_both_kinds():
    only = DATALIST | {"training": [MASS | {"crop": "lesion"}]}
    assert "lesion" not in task_names(only)
    with pytest.raises(InputError, match=r"has no task 'lesion'.*--crops both"):
        find_task(only, "lesion")
