"""The CSV of labels, and who is whose patient."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miram.errors import InputError
from miram.prepare.labels import ImageRow, Labels, RowImages, read_labels
from miram.prepare.listing import LabelColumn, label_columns

SOURCES = ["a/1.png", "b/1.png", "b/2.png", "3.png"]


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_rows_find_their_images_by_path_or_by_a_name_of_its_own(tmp_path: Path) -> None:
    path = table(tmp_path, "image,patient,density\na/1.png,p1,B\n2.png,,C\n./3.png,p3,\nlost.png,p4,D\n")
    labels = read_labels(path, SOURCES)
    assert labels.images == {
        "a/1.png": ImageRow("p1", labels={"density": "B"}),
        "b/2.png": ImageRow(labels={"density": "C"}),
        "3.png": ImageRow("p3", labels={"density": None}),
    }
    assert labels.columns == ["density"]
    assert [(row.source, row.status, row.reason) for row in labels.missing] == [
        ("labels.csv, line 5", "error", "no such image: lost.png")
    ]


def test_splits_are_named_in_the_data_lists_words(tmp_path: Path) -> None:
    path = table(tmp_path, "image,split,density\na/1.png,Train,B\n2.png,,C\n3.png,val,A\n")
    labels = read_labels(path, SOURCES)
    assert [labels.of(name).split for name in ("a/1.png", "b/2.png", "3.png")] == ["training", None, "validation"]
    assert labels.columns == ["density"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\n1.png\n", r"line 2: '1\.png' may be a/1\.png or b/1\.png"),
        ("image\n3.png\n3.png\n", r"line 3: 3\.png occurs twice"),
        ("image,split\n3.png,dev\n", "line 2: split is 'dev'; give training, validation or test"),
        ("image,grade\nx/y.png,1\nz.png,2\n", r"none of its 2 rows names an image \('x/y\.png'\), the first image is"),
        ("image,grade\n", "none of its 0 rows"),
    ],
)
def test_tables_that_do_not_fit_the_folder_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(table(tmp_path, text), SOURCES)


def test_only_an_empty_cell_is_unknown(tmp_path: Path) -> None:
    words = ["None", "NA", "null", "nan", "N/A", "", "  "]
    rows = "".join(f"{number}.png,{word}\n" for number, word in enumerate(words))
    labels = read_labels(table(tmp_path, "image,finding\n" + rows), [f"{number}.png" for number in range(7)])
    found = [labels.of(f"{number}.png").labels["finding"] for number in range(7)]
    assert found == ["None", "NA", "null", "nan", "N/A", None, None]


def test_a_cell_may_hold_several_classes_in_any_order(tmp_path: Path) -> None:
    text = (
        "image,finding,side\na/1.png,mass;calcification,L\n2.png,calcification; mass;mass,R\n3.png,mass,L\nb/1.png,;,\n"
    )
    labels = read_labels(table(tmp_path, text), SOURCES)
    assert {name: row.labels["finding"] for name, row in labels.images.items()} == {
        "a/1.png": ["calcification", "mass"],
        "b/2.png": ["calcification", "mass"],
        "3.png": ["mass"],
        "b/1.png": [],
    }
    assert labels.of("3.png").labels["side"] == "L"
    items = [{"source": name, **row.labels} for name, row in labels.images.items()]
    column = label_columns(items, Labels(columns=["finding"]))["finding"]
    assert column == LabelColumn({"calcification": 2, "mass": 3}, labelled=4, unknown=0, several=True)


SPELLED = ["a/im1.png", "b/im1.png", "b/im2.png", "Im3.PNG", "deep/er/scan.4.nii.gz", "J\u00fcrgen.png"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a/im1.png", "a/im1.png"),
        ("im2.png", "b/im2.png"),
        ("IM2.PNG", "b/im2.png"),
        ("im2", "b/im2.png"),
        ("IM2.dcm", "b/im2.png"),  # a table of the DICOM files, a folder of the PNG files made of them
        ("im3", "Im3.PNG"),
        ("scan.4", "deep/er/scan.4.nii.gz"),
        ("er\\scan.4.nii.gz", "deep/er/scan.4.nii.gz"),
        ("C:\\data\\im3.png", "Im3.PNG"),
        ("/mnt/other/B/im1.png", "b/im1.png"),
        ("Ju\u0308rgen.png", "J\u00fcrgen.png"),  # the same letter as macOS writes it
        ("c/im2.png", None),  # of another folder
        ("c/im1.png", None),
        ("im20.png", None),
        ("im", None),
        ("", None),
    ],
)
def test_a_name_means_the_one_image_that_fits(name: str, source: str | None) -> None:
    assert RowImages(SPELLED).find(name) == source


@pytest.mark.parametrize("name", ["im1.png", "im1", "IM1.PNG"])
def test_a_name_that_fits_several_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"may be a/im1\.png or b/im1\.png; give the path"):
        RowImages(SPELLED).find(name)


def test_the_own_spelling_comes_first() -> None:
    assert RowImages(["x.png", "X.png"]).find("X.png") == "X.png"
    assert RowImages(["x.png", "x.dcm"]).find("x.dcm") == "x.dcm"


def test_a_name_that_is_not_utf8_is_found_as_it_is_shown() -> None:
    source = os.fsdecode(b"bild_\xe4.png")
    assert RowImages([source]).find(r"bild_\xe4.png") == source
