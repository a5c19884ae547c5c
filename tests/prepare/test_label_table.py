"""How a table of labels is read: separators, marks, headings that nearly are what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from miram.errors import InputError
from miram.prepare.label_table import read_table


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "labels.csv").write_text(text, encoding=encoding)
    return folder / "labels.csv"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image,patient,density\n1.png,p1,B\n", "utf-8"),
        ("image,patient,density\r\n1.png,p1,B\r\n", "utf-8-sig"),  # of a spreadsheet
        ("image;patient;density\n1.png;p1;B\n", "utf-8"),
        ("image\tpatient\tdensity\n1.png\tp1\tB\n", "utf-8"),
        ("image, patient , density\n1.png, p1 , B\n", "utf-8"),
    ],
)
def test_separators_and_marks_make_no_difference(tmp_path: Path, text: str, encoding: str) -> None:
    read = read_table(table(tmp_path, text, encoding))
    assert read.rows == [(2, {"image": "1.png", "patient": "p1", "density": "B"})]
    assert (read.columns, read.remarks) == (["density"], [])


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    text = 'image,remark\n\n1.png,"two\nlines"\n,,\n2.png\n'
    read = read_table(table(tmp_path, text))
    assert [(number, cells["image"]) for number, cells in read.rows] == [(4, "1.png"), (6, "2.png")]


@pytest.mark.parametrize(
    ("heading", "meant"),
    [
        *(
            (heading, "image")
            for heading in ("Image", "IMAGE ID", "image_path", "file", "filename", "File Name", "imageId")
        ),
        *(
            (heading, "patient")
            for heading in ("patient_id", "Patient", "PatientID", "Patient ID", "subject_id", "case_id")
        ),
        *((heading, "lesion") for heading in ("lesion_id", "Lesion", "LesionNo")),
        *((heading, "split") for heading in ("Split", "SPLIT", "split_name", "subset")),
    ],
)
def test_a_heading_that_nearly_is_one_is_named(tmp_path: Path, heading: str, meant: str) -> None:
    others = "" if meant == "image" else ",image"
    path = table(tmp_path, f" {heading} ,density{others}\n1,B{others and ',1.png'}\n")
    with pytest.raises(InputError, match=f"the column {heading} would be taken for a label; rename it to {meant}"):
        read_table(path)


@pytest.mark.parametrize(
    "heading", ["patient_age", "image_quality", "lesion_type", "case", "pathology", "finding", "view", "split_dose"]
)
def test_other_headings_are_labels(tmp_path: Path, heading: str) -> None:
    assert read_table(table(tmp_path, f"image,{heading}\n1.png,B\n")).columns == [heading]


def test_a_column_of_splits_by_another_name_is_told_by_its_cells(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the column set would be taken .* rename it to split"):
        read_table(table(tmp_path, "image,set\n1.png,train\n2.png,Test\n3.png,\n"))
    assert read_table(table(tmp_path, "image,set\n1.png,train\n2.png,other\n")).columns == ["set"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    read = read_table(table(tmp_path, ",image,Unnamed: 0,patient,patient_id,density\n0,1.png,0,p,7,B\n"))
    assert read.columns == ["density"]
    assert read.remarks == [
        "column 1, column 3 of the table without a heading: left out",
        "column patient_id of the table beside patient: not a label, left out",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a CSV: it is empty"),
        ("name,density\n3.png,B\n", "no column 'image'; it has name, density"),
        ("image,mask\n3.png,x\n", "column 'mask'"),
        ("image,density, density\n3.png,B,C\n", "two columns 'density'"),
        ("image,density\n3.png,mass,calcification\n", "line 2 has 3 cells, the heading 2"),
        ('image,density\n3.png,"B\n', "cannot be read as a CSV"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(table(tmp_path, text))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save it as CSV UTF-8"):
        read_table(table(tmp_path, "image,density\n\xe4.png,B\n", "latin-1"))
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
