"""The reader is found by suffix, or by how a file begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miram.errors import InputError
from miram.readers.formats import is_image_file, read_image, without_suffix

from ..image_files import picture, write_dicom

MAMMOGRAMS = Path(__file__).parents[2] / "../shared/data/mammograms"


@pytest.mark.parametrize("name", ["a.dcm", "a.DCM", "a", "1.2.840.99", "a.ima"])
def test_dicom_is_known_with_or_without_a_suffix(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / name, picture())
    assert is_image_file(path)
    np.testing.assert_array_equal(read_image(path).pixels, picture())


@pytest.mark.parametrize("name", ["notes.txt", "table.csv", "plain", "DICOMDIR"])
def test_other_files_are_no_images(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "DICOMDIR":
        write_dicom(path, picture())
    else:
        path.write_text("text")
    assert not is_image_file(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/v0.nii.gz", "a/v0"),
        ("a/V0.NII.GZ", "a/V0"),
        ("v0.nii", "v0"),
        ("case.1.png", "case.1"),
        ("1.2.840.7", "1.2.840.7"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_a_name_loses_a_known_suffix_whole_and_nothing_else(path: str, name: str) -> None:
    assert without_suffix(path) == Path(name)


def test_missing_empty_and_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("text")
    for name, message in (("no.png", "no file"), ("empty.png", "empty"), ("notes.txt", "no supported format")):
        with pytest.raises(InputError, match=message) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)


def test_limit_and_intensity_reach_the_reader(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", intensity="percentiles").scaling == "percentiles 0.5-99.5"
    with pytest.raises(InputError, match="max_pixels=10"):
        read_image(tmp_path / "a.png", max_pixels=10)


@pytest.mark.skipif(not MAMMOGRAMS.is_dir(), reason="the real mammograms are not on this machine")
def test_real_mammograms_are_gray(tmp_path: Path) -> None:
    image = read_image(MAMMOGRAMS / "sample_D3.jpg")
    assert image.pixels.shape == (2457, 1890)
    assert image.scaling == "8 bit x 257"
    assert (image.pixels % 257 == 0).all()
