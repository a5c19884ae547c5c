import logging

import numpy as np
import pytest

from miram.data.datalist import write_datalist
from miram.data.labelled import load_labelled, targets_as_samples
from miram.data.tasks import Task
from miram.errors import InputError

MARGINS = Task("mass_margins", "multilabel", ("OBSCURED", "SPICULATED"))
PATHOLOGY = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))


def item(number, pathology, margins=None, **more):
    kind = {"abnormality": "mass", "pathology": pathology, "mass_margins": margins}
    return {"image": f"{number}.png", "patient": f"p{number}", "hash": digits(number), **kind, **more}


def digits(number):
    """A hash far from others, so that no image needs to be read for the check for leakage."""
    return np.random.default_rng(number).bytes(32).hex()


@pytest.fixture
def folder(tmp_path):
    training = [
        item(0, "BENIGN", ["OBSCURED"]),
        item(1, "MALIGNANT", ["SPICULATED", "OBSCURED"]),
        item(2, None, None),
        item(3, "MALIGNANT", None, abnormality="calcification"),
        {"image": "4.png", "patient": "p4", "hash": digits(4), "crop": "tissue"},
    ]
    validation = [item(5, "MALIGNANT", ["OBSCURED"]), item(6, "MALIGNANT", ["OBSCURED"])]
    for one in training + validation:
        (tmp_path / one["image"]).touch()
    write_datalist(tmp_path / "datalist.json", {"training": training, "validation": validation, "test": []})
    return tmp_path


def test_unknown_labels_are_left_out_and_counted(folder, caplog):
    with caplog.at_level(logging.INFO):
        items = load_labelled(folder, "training", PATHOLOGY)
    assert [one["patient"] for one in items] == ["p0", "p1", "p3"]
    assert "3 images of 3 patients (BENIGN 1, MALIGNANT 2); left out: 1 of unknown label, 1 that cannot" in caplog.text


def test_a_calcification_has_no_margins(folder, caplog):
    with caplog.at_level(logging.INFO):
        assert [one["patient"] for one in load_labelled(folder, "training", MARGINS)] == ["p0", "p1"]
    assert "left out: 1 of unknown label, 2 that cannot have one" in caplog.text


@pytest.mark.parametrize("task", [PATHOLOGY, MARGINS])
def test_a_split_of_one_class_is_refused_with_its_counts(task, folder):
    with pytest.raises(InputError, match=r"validation split has only one class .*(MALIGNANT|OBSCURED) 2"):
        load_labelled(folder, "validation", task)


def test_a_fraction_of_the_patients_is_counted(folder, caplog):
    with caplog.at_level(logging.INFO):
        assert len(load_labelled(folder, "training", PATHOLOGY, label_fraction=0.67)) == 2
    assert "1 beyond label_fraction 0.67" in caplog.text


def test_samples_are_paths_and_float_targets(folder):
    samples = targets_as_samples(load_labelled(folder, "training", MARGINS), MARGINS)
    assert samples[1]["image"] == str(folder / "1.png")
    assert samples[0]["label"].dtype == np.float32
    assert [sample["label"].tolist() for sample in samples] == [[1, 0], [1, 1]]
