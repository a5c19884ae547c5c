"""What a summary warns of in a table of labels."""

from __future__ import annotations

from miram.prepare.labels import ImageRow, Labels
from miram.prepare.listing import LabelColumn
from miram.prepare.summary import alike, remarks_on_labels, remarks_on_patients


def test_spellings_that_differ_only_in_capitals_spaces_or_digits_are_alike() -> None:
    assert alike(["Malignant", "malignant", "benign", "BENIGN ", "be nign", "normal"]) == [
        ["BENIGN ", "be nign", "benign"],
        ["Malignant", "malignant"],
    ]
    assert alike(["1", "1.0", "01", "2"]) == [["01", "1", "1.0"]]


def test_classes_are_warned_of() -> None:
    columns = {
        "diagnosis": LabelColumn({"Malignant": 2, "benign": 3, "malignant": 1, "N/A": 1}, 7, 0),
        "remark": LabelColumn({"a": 1, "A": 1, "b": 1}, 3, 0),
        "side": LabelColumn({"L": 1, "R": 1}, 2, 5),
    }
    spelling, unknown, identifier = remarks_on_labels(columns)
    assert spelling.startswith("classes of diagnosis differ only in spelling: 'Malignant', 'malignant';")
    assert unknown.startswith("column diagnosis has the class 'N/A': only an empty cell is unknown")
    assert identifier.startswith("column remark has a value of its own in most images")


def test_patients_who_may_be_one_are_warned_of() -> None:
    labels = Labels({name: ImageRow(patient) for name, patient in (("1", "P1"), ("2", "p1"), ("3", "P2"), ("4", None))})
    (remark,) = remarks_on_patients(labels)
    assert remark.startswith("patients differ only in spelling: 'P1', 'p1'")
