"""The CSV of labels, and who is whose patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.labels import assign_patients, label_names, read_labels
from miram.prepare.records import Record

SOURCES = ["a/1.png", "b/1.png", "b/2.png", "3.png"]


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_rows_find_their_images_by_path_or_by_a_name_of_its_own(tmp_path: Path) -> None:
    path = table(tmp_path, "image,patient,density\na/1.png,p1,B\n2.png,,C\n./3.png,p3,N/A\nlost.png,p4,D\n")
    labels, columns, missing = read_labels(path, SOURCES)
    assert labels == {
        "a/1.png": {"patient": "p1", "density": "B"},
        "b/2.png": {"patient": None, "density": "C"},
        "3.png": {"patient": "p3", "density": None},
    }
    assert columns == ["density"]
    assert [(row.source, row.status, row.reason) for row in missing] == [
        ("labels.csv, line 5", "error", "no such image: lost.png")
    ]


def test_splits_are_named_in_the_data_lists_words(tmp_path: Path) -> None:
    path = table(tmp_path, "image,split,density\na/1.png,Train,B\n2.png,,C\n3.png,val,A\n")
    labels, columns, _ = read_labels(path, SOURCES)
    assert [labels[name]["split"] for name in ("a/1.png", "b/2.png", "3.png")] == ["training", None, "validation"]
    assert columns == ["density"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,density\n3.png,B\n", "no column 'image'; it has file, density"),
        ("image\n1.png\n", r"'1\.png' may be a/1\.png or b/1\.png"),
        ("image\n3.png\n3.png\n", r"line 3: 3\.png is there twice"),
        ("image,mask\n3.png,x\n", "column 'mask'"),
        ("image,split\n3.png,dev\n", "line 2: split is 'dev'; give training, validation or test"),
        ("", "cannot be read as a CSV"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(table(tmp_path, text), SOURCES)


def test_classes_are_sorted_as_numbers_or_as_text() -> None:
    items: list[dict[str, Any]] = [
        {"grade": "10", "side": "R"},
        {"grade": "9", "side": None},
        {"grade": "9", "side": "L"},
    ]
    assert label_names(items, ["grade", "side"]) == {"grade": ["9", "10"], "side": ["L", "R"]}


def records() -> list[Record]:
    hashes = (None, "f00", "aaa", "f00")
    return [Record(source, 1, 1, ("x",), patient=patient) for source, patient in zip(SOURCES, hashes, strict=True)]


def test_patients_come_from_the_header_as_numbers_else_from_the_file() -> None:
    patients, origins = assign_patients(records(), {}, None)
    assert patients == {"a/1.png": "a/1", "b/1.png": "patient_0001", "b/2.png": "patient_0002", "3.png": "patient_0001"}
    assert origins == {"dicom": 3, "file": 1}


def test_the_table_wins_over_the_pattern_and_that_over_the_header() -> None:
    patients, origins = assign_patients(records(), {"3.png": {"patient": "Ann"}}, "^([ab])/")
    assert patients == {"a/1.png": "a", "b/1.png": "b", "b/2.png": "b", "3.png": "Ann"}
    assert origins == {"pattern": 3, "csv": 1}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("([ab]", "no regular expression"), ("[ab]", "0 groups"), ("([ab])/", r"finds no patient in 3\.png")],
)
def test_wrong_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assign_patients(records(), {}, pattern)
