"""Decoders timed beside each other."""

from __future__ import annotations

import numpy as np
import pytest

from miram.errors import InputError
from studies.benchmark.reading import READ, REDUCE, measure_reading

from ...image_files import picture, write_dicom, write_jpeg_lossless


def test_every_decoder_of_every_syntax_is_timed_on_the_largest_file(tmp_path):
    write_dicom(tmp_path / "small.dcm", picture(16, (40, 30)))
    write_dicom(tmp_path / "large.dcm", picture(16, (80, 60)))
    write_jpeg_lossless(tmp_path / "sub.dcm", picture(12, (40, 30)), 12)
    (tmp_path / "notes.txt").write_text("no image")
    table = measure_reading(tmp_path, repeats=2)
    assert set(table["file"]) == {"large.dcm", "sub.dcm"}
    assert table[table["file"] == "large.dcm"]["decoder"].tolist() == ["pydicom", READ, REDUCE]
    compressed = table[table["file"] == "sub.dcm"]
    assert "gdcm" in compressed["decoder"].tolist()
    assert (table["note"] == "").all()
    assert (table["low"] <= table["cpu_seconds"]).all()
    assert (table["cpu_seconds"] <= table["high"]).all()


def test_a_decoder_that_fails_or_differs_is_told_of(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "one.dcm", picture(16, (40, 30)))

    def broken():
        raise RuntimeError("no")

    readers = {"first": lambda: np.zeros(2), "other": lambda: np.ones(2), "broken": broken}
    monkeypatch.setattr("studies.benchmark.reading._decoders", lambda path: readers)
    notes = measure_reading(path, repeats=1)["note"].tolist()
    assert notes == ["", "other values than the decoder first", "fails (RuntimeError)"]


def test_a_folder_without_dicom_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no DICOM image was found"):
        measure_reading(tmp_path)
