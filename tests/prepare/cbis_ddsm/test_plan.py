from __future__ import annotations

from typing import Any

import pytest

from miram.prepare.cbis_ddsm.layout import DicomFile, DicomIndex
from miram.prepare.cbis_ddsm.lesions import CropSettings
from miram.prepare.cbis_ddsm.plan import plan_jobs, tissue_names
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables


@pytest.fixture
def rows(miniature: Any) -> list[LesionView]:
    """Two lesions of one mammogram, and one of another patient with mask and crop apart."""
    miniature.add(number=1)
    miniature.add(number=2)
    miniature.add("calc_test", patient="P_00002", separate=True)
    miniature.write_tables()
    return read_tables(miniature.csv_dir)


def indexed(*rows: LesionView) -> DicomIndex:
    uids = [uid for row in rows for uid in (row.image_series, *row.lesion_series)]
    return DicomIndex({uid: [DicomFile(f"{uid}.dcm", 1, 1, uid, 10, 10)] for uid in uids})


def test_one_job_for_all_lesions_of_a_mammogram(rows: list[LesionView]) -> None:
    jobs, refusals = plan_jobs(rows, indexed(*rows), CropSettings())
    assert refusals == {}
    assert [list(job.lesions) for job in jobs.values()] == [
        ["mass_P_00001_LEFT_CC_1", "mass_P_00001_LEFT_CC_2"],
        ["calcification_P_00002_LEFT_CC_1"],
    ]
    assert [file.series for file in jobs[rows[2].image_series].lesions[rows[2].name]] == sorted(rows[2].lesion_series)


def test_tissue_needs_no_mask(rows: list[LesionView]) -> None:
    index = indexed(*rows)
    for uid in rows[2].lesion_series:
        del index.series[uid]
    assert list(plan_jobs(rows, index, CropSettings())[1]) == ["calc_case_description_test_set.csv row 1"]
    jobs, refusals = plan_jobs(rows, index, CropSettings(crops="tissue", crops_per_image=2))
    assert refusals == {}
    assert [(job.lesions, job.tissue) for job in jobs.values()] == [
        ({}, ("tissue_mass_P_00001_LEFT_CC_1", "tissue_mass_P_00001_LEFT_CC_2")),
        ({}, ("tissue_calcification_P_00002_LEFT_CC_1", "tissue_calcification_P_00002_LEFT_CC_2")),
    ]


def test_one_of_two_lesion_series_is_tried(rows: list[LesionView]) -> None:
    index = indexed(*rows)
    del index.series[rows[2].lesion_series[0]]
    jobs, refusals = plan_jobs(rows, index, CropSettings())
    assert refusals == {}
    assert [file.series for file in jobs[rows[2].image_series].lesions[rows[2].name]] == [rows[2].lesion_series[1]]


@pytest.mark.parametrize(("crops", "count"), [("lesion", 0), ("tissue", 4), ("both", 4)])
def test_number_of_tissue_crops(rows: list[LesionView], crops: str, count: int) -> None:
    assert len(tissue_names(rows[0], CropSettings(crops=crops))) == count
