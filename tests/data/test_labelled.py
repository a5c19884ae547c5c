from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

from miram.data.datalist import write_datalist
from miram.data.labelled import load_labelled, take_fraction, targets_as_samples
from miram.data.tasks import Task, targets
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
    write_datalist(tmp_path, {"training": training, "validation": validation, "test": []})
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


BINARY = Task("pathology", "binary", ("BENIGN", "MALIGNANT"))
LABELS = Task("marks", "multilabel", ("a", "b", "c"))


def patients(count, positive_share=0.4):
    """Two items a patient, both of one label."""
    return [
        {"image": f"{2 * n + view}.png", "patient": f"p{n}", "pathology": BINARY.classes[n < positive_share * count]}
        for n, view in itertools.product(range(count), range(2))
    ]


def chosen(items, task, fraction, seed=0):
    return {item["patient"] for item in take_fraction(items, task, fraction, seed)}


def test_patients_stay_whole_and_their_number_is_the_fraction():
    items = patients(50)
    for fraction in (0.1, 0.3, 0.5, 1.0):
        kept = take_fraction(items, BINARY, fraction)
        assert len(kept) == 2 * 50 * fraction
        assert len({item["patient"] for item in kept}) == 50 * fraction


@pytest.mark.parametrize("seed", range(5))
def test_smaller_fractions_lie_inside_larger_ones(seed):
    sets = [chosen(patients(50), BINARY, fraction, seed) for fraction in (0.05, 0.1, 0.3, 0.7, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(sets))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_classes_keep_their_shares(fraction):
    kept = take_fraction(patients(100), BINARY, fraction, seed=3)
    assert targets(kept, BINARY).mean() == pytest.approx(0.4, abs=1 / (100 * fraction))  # to one patient


def test_the_seed_decides():
    items = patients(50)
    assert chosen(items, BINARY, 0.2, seed=1) == chosen(items, BINARY, 0.2, seed=1)
    assert chosen(items, BINARY, 0.2, seed=1) != chosen(items, BINARY, 0.2, seed=2)


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_class_keeps_a_patient_where_it_can(seed):
    """One patient in 60 has c."""
    items = [
        {"image": f"{n}", "patient": f"p{n}", "marks": ["c", "a"] if n == 17 else [["a"], ["b"], ["a", "b"]][n % 3]}
        for n in range(60)
    ]
    assert targets(take_fraction(items, LABELS, 0.05, seed), LABELS).any(axis=0).all()
    assert "p17" in chosen(items, LABELS, 0.05, seed)


def test_a_fraction_that_leaves_a_class_without_a_patient_is_refused():
    with pytest.raises(InputError, match=r"label_fraction 0.02 keeps 1 of 50 patients and none with BENIGN"):
        take_fraction(patients(50), BINARY, 0.02)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_fractions_are_shares(fraction):
    with pytest.raises(InputError, match="label_fraction is"):
        take_fraction(patients(4), BINARY, fraction)


def test_the_order_of_the_items_stays():
    kept = take_fraction(patients(50), BINARY, 0.5)
    numbers = [int(item["image"].removesuffix(".png")) for item in kept]
    assert np.all(np.diff(numbers) > 0)
