"""Which image a table's row means."""

from __future__ import annotations

import os

import pytest

from miram.errors import InputError
from miram.prepare.row_images import RowImages

SOURCES = ["a/im1.png", "b/im1.png", "b/im2.png", "Im3.PNG", "deep/er/scan.4.nii.gz", "J\u00fcrgen.png"]


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
    assert RowImages(SOURCES).find(name) == source


@pytest.mark.parametrize("name", ["im1.png", "im1", "IM1.PNG"])
def test_a_name_that_fits_several_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"may be a/im1\.png or b/im1\.png; give the path"):
        RowImages(SOURCES).find(name)


def test_the_own_spelling_comes_first() -> None:
    assert RowImages(["x.png", "X.png"]).find("X.png") == "X.png"
    assert RowImages(["x.png", "x.dcm"]).find("x.dcm") == "x.dcm"


def test_a_name_that_is_not_utf8_is_found_as_it_is_shown() -> None:
    source = os.fsdecode(b"bild_\xe4.png")
    assert RowImages([source]).find(r"bild_\xe4.png") == source
