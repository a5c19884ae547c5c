"""Whose images they are."""

from __future__ import annotations

import pytest

from miram.errors import InputError
from miram.prepare.labels import ImageRow, Labels
from miram.prepare.patients import assign_patients
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
