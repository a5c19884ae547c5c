import csv

import pandas as pd
import pytest

from miram.generated.csv_files import write_tables
from miram.generated.films import Quirks, plan_films
from miram.generated.patients import CaseSettings, draw_cases


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
