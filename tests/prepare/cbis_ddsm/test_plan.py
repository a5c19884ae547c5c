from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miram.prepare.cbis_ddsm.layout import DicomFile, DicomIndex
from miram.prepare.cbis_ddsm.masks import MaskFiles
from miram.prepare.cbis_ddsm.plan import Refusal, plan_rows
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables
from miram.prepare.crop_settings import CropSettings
from miram.prepare.image_jobs import ImageJob


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


def plan(rows: list[LesionView], index: DicomIndex, crops: str = "lesion", count: int = 4) -> list[ImageJob | Refusal]:
    """What becomes of each row."""
    settings = CropSettings(crops, 32, count)
    planned = plan_rows(rows, index, settings, 0.05, Path("dicom"))
    return [planned[row.source] for row in rows]


def jobs(rows: list[LesionView], index: DicomIndex, crops: str = "lesion", count: int = 4) -> list[ImageJob]:
    """The same where no row is refused."""
    planned = plan(rows, index, crops, count)
    assert all(isinstance(one, ImageJob) for one in planned)
    return [one for one in planned if isinstance(one, ImageJob)]


def mask_series(job: ImageJob, region: int) -> list[str]:
    files = job.regions[region]
    assert isinstance(files, MaskFiles)
    return [file.series for file in files.files]


def test_one_job_for_all_lesions_of_a_mammogram(rows: list[LesionView]) -> None:
    first, second, third = jobs(rows, indexed(*rows))
    assert first is second
    assert first.source == f"{rows[0].image_series}.dcm"
    assert first.lesions == ("mass_P_00001_LEFT_CC_1", "mass_P_00001_LEFT_CC_2")
    assert third.lesions == ("calcification_P_00002_LEFT_CC_1",)
    assert mask_series(third, 0) == sorted(rows[2].lesion_series)
    assert len({first.seed, third.seed}) == 2


def test_tissue_needs_no_mask(rows: list[LesionView]) -> None:
    index = indexed(*rows)
    for uid in rows[2].lesion_series:
        del index.series[uid]
    assert [isinstance(one, Refusal) for one in plan(rows, index)] == [False, False, True]
    first, _, third = jobs(rows, index, "tissue", 2)
    assert (first.regions, first.lesions, third.regions) == ((), (), ())
    assert first.tissue == ("tissue_mass_P_00001_LEFT_CC_1", "tissue_mass_P_00001_LEFT_CC_2")
    assert third.tissue == ("tissue_calcification_P_00002_LEFT_CC_1", "tissue_calcification_P_00002_LEFT_CC_2")


def test_one_of_two_lesion_series_is_tried(rows: list[LesionView]) -> None:
    index = indexed(*rows)
    del index.series[rows[2].lesion_series[0]]
    assert mask_series(jobs(rows, index)[2], 0) == [rows[2].lesion_series[1]]


@pytest.mark.parametrize(("crops", "count"), [("lesion", 0), ("tissue", 4), ("both", 4)])
def test_number_of_tissue_crops(rows: list[LesionView], crops: str, count: int) -> None:
    assert len(jobs(rows, indexed(*rows), crops)[0].tissue) == count
