import csv

import numpy as np
import pandas as pd
import pydicom
import pytest

from miram.generated.data_files import film_paths, write_film, write_tables
from miram.generated.films import Quirks, plan_films
from miram.generated.generate import draw_film
from miram.generated.mammogram import FilmSettings
from miram.generated.patients import CaseSettings, draw_cases

SETTINGS = CaseSettings(height=(240, 280), large_fraction=0.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(film, pixels and masks, folder) of films that hold every kind of file."""
    folder = tmp_path_factory.mktemp("dicom")
    quirks = Quirks(separate_series=0.3, small_mask=0.2, swapped=0.5)
    films = plan_films(draw_cases(12, 0, SETTINGS), 0, quirks)
    drawn = [(film, draw_film(film, 0, FilmSettings())) for film in films]
    for film, mammogram in drawn:
        write_film(film, mammogram, folder)
    return drawn, folder


def rows_of(written):
    drawn, folder = written
    for film, mammogram in drawn:
        for row, mask in zip(film.rows, mammogram.masks, strict=True):
            yield row, mammogram.pixels, mask, folder


def test_exactly_the_announced_files_are_written(written):
    drawn, folder = written
    announced = [path for film, _ in drawn for path in film_paths(film, folder)]
    assert sorted(announced) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(announced) == len(set(announced))


def test_mammograms_are_16_bit_secondary_captures_without_patient_data(written):
    for row, pixels, _, folder in rows_of(written):
        header = pydicom.dcmread(folder / row.image.path / "000000.dcm")
        assert header.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
        assert header.file_meta.MediaStorageSOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert (header.Modality, header.PhotometricInterpretation, header.BitsStored) == ("MG", "MONOCHROME2", 16)
        assert header.SeriesInstanceUID == row.image.series
        assert header.PatientName == header.PatientID == row.image.patient_id
        assert header.PatientBirthDate == ""
        assert "NumberOfFrames" not in header
        np.testing.assert_array_equal(header.pixel_array, pixels)


def test_masks_are_8_bit_with_two_values_and_sometimes_smaller(written):
    smaller = 0
    for row, _, mask, folder in rows_of(written):
        header = pydicom.dcmread(folder / row.mask.path / row.mask_file)
        stored = header.pixel_array
        assert header.BitsStored == 8
        assert set(np.unique(stored)) == {0, 255}
        np.testing.assert_array_equal(stored > 0, mask[: stored.shape[0], : stored.shape[1]])
        smaller += stored.shape != mask.shape
    assert smaller > 0


def test_crops_are_cut_from_the_mammogram(written):
    for row, pixels, mask, folder in rows_of(written):
        crop = pydicom.dcmread(folder / row.crop.path / row.crop_file).pixel_array
        assert crop.shape == (np.ptp(np.flatnonzero(mask.any(1))) + 1, np.ptp(np.flatnonzero(mask.any(0))) + 1)
        assert crop[0, 0] == pixels[mask.any(1).argmax(), mask.any(0).argmax()]


def test_crop_and_mask_share_a_series_or_have_their_own(written):
    shared = {row.crop.series == row.mask.series for row, *_ in rows_of(written)}
    assert shared == {True, False}
    for row, _, _, folder in rows_of(written):
        assert len(list((folder / row.crop.path).iterdir())) == (2 if row.crop.series == row.mask.series else 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csv")
    films = plan_films(draw_cases(40, 0, CaseSettings()), 0, Quirks())
    write_tables(folder, [row for film in films for row in film.rows])
    return folder


@pytest.mark.parametrize(
    ("name", "density", "newline_column"),
    [
        ("mass_case_description_train_set.csv", "breast_density", "ROI mask file path"),
        ("mass_case_description_test_set.csv", "breast_density", "ROI mask file path"),
        ("calc_case_description_train_set.csv", "breast density", "cropped image file path"),
        ("calc_case_description_test_set.csv", "breast density", "cropped image file path"),
    ],
)
def test_tables_are_written_as_tcia_writes_them(folder, name, density, newline_column):
    with open(folder / name, newline="", encoding="utf-8") as stream:
        text = stream.read()
        records = list(csv.DictReader(text.splitlines(keepends=True)))
    assert records
    assert density in records[0]
    assert text.count("\r\n") == len(records) + 1
    ends = {column for record in records for column, value in record.items() if value.endswith("\n")}
    assert ends == {newline_column}
    assert all(record[newline_column].endswith(".dcm\n") for record in records)


def test_columns_are_those_of_the_real_tables(folder, pytestconfig):
    real = pytestconfig.rootpath / "../shared/data/cbis_ddsm"
    if not real.is_dir():
        pytest.skip("the real tables are not on this machine")
    for path in folder.iterdir():
        real_table, table = pd.read_csv(real / path.name), pd.read_csv(path)
        assert list(table.columns) == list(real_table.columns)
        for column in ("abnormality type", "pathology", "left or right breast", "image view"):
            assert set(table[column]) <= set(real_table[column])


def test_train_and_test_tables_share_a_patient(folder):
    patients = {
        split: {patient for path in folder.glob(f"*_{split}_set.csv") for patient in pd.read_csv(path)["patient_id"]}
        for split in ("train", "test")
    }
    assert len(patients["train"] & patients["test"]) == 1
