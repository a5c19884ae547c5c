"""Whose images they are."""

from __future__ import annotations

import pytest

from miram.data.datalist import Item
from miram.errors import InputError
from miram.prepare.labels import ImageRow, Labels
from miram.prepare.patients import assign_patients, draw_splits, named_splits
from miram.prepare.records import Record

SOURCES = ["a/1.png", "b/1.png", "b/2.png", "3.png"]


def records() -> list[Record]:
    hashes = (None, "f00", "aaa", "f00")
    return [Record(source, 1, 1, patient=patient) for source, patient in zip(SOURCES, hashes, strict=True)]


def test_patients_come_from_the_header_as_numbers_else_from_the_file() -> None:
    patients, origins = assign_patients(records(), Labels(), None)
    assert patients == {"a/1.png": "a/1", "b/1.png": "patient_0001", "b/2.png": "patient_0002", "3.png": "patient_0001"}
    assert origins == {"dicom": 3, "file": 1}


def test_the_table_wins_over_the_pattern_and_that_over_the_header() -> None:
    patients, origins = assign_patients(records(), Labels({"3.png": ImageRow("Ann")}), "^([ab])/")
    assert patients == {"a/1.png": "a", "b/1.png": "b", "b/2.png": "b", "3.png": "Ann"}
    assert origins == {"pattern": 3, "csv": 1}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("([ab]", "not a regular expression"), ("[ab]", "0 groups"), ("([ab])/", r"finds no patient in 3\.png")],
)
def test_wrong_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assign_patients(records(), Labels(), pattern)


def test_a_study_stands_for_a_patient_without_an_id() -> None:
    records = [
        Record("a.dcm", 1, 1, study="s1"),
        Record("b.dcm", 1, 1, study="s1"),
        Record("c.dcm", 1, 1, study="s2", patient="p"),
        Record("d.dcm", 1, 1, study="s2"),
        Record("e.png", 1, 1),
    ]
    patients, origins = assign_patients(records, Labels(), None)
    assert patients == {
        "a.dcm": "patient_0001",
        "b.dcm": "patient_0001",
        "c.dcm": "patient_0002",
        "d.dcm": "patient_0002",
        "e.png": "e",
    }
    assert origins == {"study": 3, "dicom": 1, "file": 1}


def people(count: int) -> list[Item]:
    """Two images a patient; every fourth patient is malignant."""
    return [{"patient": f"p{n}", "label": "malignant" if n % 4 == 0 else "benign"} for n in range(count) for _ in "ab"]


def patients(items: list[Item]) -> list[str]:
    return sorted({item["patient"] for item in items})


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_drawn_by_patient_with_like_labels(seed: int) -> None:
    items = people(80)
    splits = draw_splits(items, {}, 0.25, 0.2, seed, "label")
    assert {name: len(patients(split)) for name, split in splits.items()} == {
        "training": 48,
        "validation": 12,
        "test": 20,
    }
    assert sorted(name for split in splits.values() for name in patients(split)) == patients(items)
    malignant = {
        name: len(patients([item for item in split if item["label"] == "malignant"])) for name, split in splits.items()
    }
    assert malignant["test"] in (4, 5, 6)
    assert malignant["validation"] in (2, 3, 4)


def test_named_patients_are_where_the_table_says() -> None:
    named = {"p0": "test", "p1": "test", "p2": "training"}
    splits = draw_splits(people(12), named, 0.0, 0.3, seed=1)
    assert patients(splits["test"]) == ["p0", "p1"]
    assert len(patients(splits["validation"])) == 3  # of the nine that the table does not name
    named["p3"] = "validation"
    assert patients(draw_splits(people(12), named, 0.0, 0.3)["validation"]) == ["p3"]


def test_those_named_for_training_are_drawn_only_where_nobody_is_unnamed() -> None:
    named = {f"p{n}": "training" for n in range(8)}
    splits = draw_splits(people(12), named, 0.25, 0.34)
    assert set(named) <= set(patients(splits["training"]))
    assert [len(patients(splits[name])) for name in ("training", "validation", "test")] == [10, 1, 1]
    everybody = {f"p{n}": "training" for n in range(12)}
    assert len(patients(draw_splits(people(12), everybody, 0.25, 0.34)["test"])) == 3


def test_a_patient_in_two_splits_is_refused() -> None:
    rows = {"a.png": "test", "b.png": "training", "c.png": None}
    labels = Labels({name: ImageRow(split=split) for name, split in rows.items()})
    assert named_splits({"a.png": "p", "c.png": "p", "d.png": "q"}, labels) == {"p": "test"}
    with pytest.raises(InputError, match=r"patient 'p' in test \(a\.png\) and in training \(b\.png\)"):
        named_splits({"a.png": "p", "b.png": "p"}, labels)
