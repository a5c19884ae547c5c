import pytest

from miram.generated.films import Quirks, generated_uid, plan_films
from miram.generated.patients import CaseSettings, draw_cases


def rows_of(patients, quirks=None):
    return [
        row for film in plan_films(draw_cases(patients, 0, CaseSettings()), 0, quirks or Quirks()) for row in film.rows
    ]


@pytest.fixture(scope="module")
def rows():
    return rows_of(60)


def test_every_quirk_occurs_in_a_set_of_the_default_size(rows):
    assert sum(row.density == 0 for row in rows) == 1
    assert sum(row.subtlety == 0 for row in rows) == 1
    assert any(len(set(row.shape)) < len(row.shape) for row in rows)
    assert any("LUCENT_CENTERED" in row.shape for row in rows)
    assert any("LUCENT_CENTER" in row.shape for row in rows)
    assert any("N/A" in row.margin for row in rows)
    assert any(row.mask_loss > 0 for row in rows)
    separate = [row for row in rows if row.crop.series != row.mask.series]
    assert separate
    assert {row.crop_file for row in separate} == {"000000.dcm"}
    assert 0.3 < sum(row.crop_file != row.crop_name for row in rows) / len(rows) < 0.5


def test_only_test_calcifications_have_another_patient_id(rows):
    renamed = [row for row in rows if row.image.patient_id != row.image.folder]
    assert renamed
    assert {(row.finding.kind, row.finding.split) for row in renamed} == {("calc", "test")}
    assert all(f"Calc-Test_{row.image.patient_id}" == f"{row.image.folder}.dcm" for row in renamed)
    assert any(row.crop.patient_id != row.crop.folder for row in rows)


def test_rows_of_a_film_share_its_series(rows):
    folders = {}
    for row in rows:
        assert folders.setdefault(row.image.folder, row.image) == row.image
    assert len(folders) < len(rows)


def test_without_quirks_everything_is_regular():
    rows = rows_of(20, Quirks(*[0.0] * 11))
    assert all(row.image.patient_id == row.image.folder and row.crop == row.mask for row in rows)
    assert all((row.shape, row.margin) == (row.finding.shape, row.finding.margin) for row in rows)
    assert all(row.crop_file == row.crop_name for row in rows)


def test_identifiers_are_valid_unique_and_repeatable(rows):
    uids = {row.crop.series for row in rows} | {row.image.study for row in rows}
    assert all(uid.startswith("2.25.") and len(uid) <= 64 and uid[5:].isdigit() for uid in uids)
    assert len({row.crop.series for row in rows}) == len(rows)
    assert generated_uid("a") == generated_uid("a") != generated_uid("b")
