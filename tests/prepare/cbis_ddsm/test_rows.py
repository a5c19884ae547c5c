from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.layout import DicomFile, DicomIndex, MaskFiles
from miram.prepare.cbis_ddsm.rows import Refusal, outcome, plan_rows, refused
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables
from miram.prepare.image_crops import CropSettings
from miram.prepare.image_jobs import ImageJob
from miram.prepare.records import Crop, Record


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


NAME, TISSUE = "mass_P_00001_LEFT_CC_1", ("tissue_1", "tissue_2")
LESION = Crop(f"images/{NAME}.png", "lesion", f"masks/{NAME}.png", 0.5, region=1)
JOB = ImageJob("a.dcm", 0, TISSUE, lesions=("another lesion", NAME))
ONLY_TISSUE = ImageJob("a.dcm", 0, TISSUE)


def tissue(*names: str) -> tuple[Crop, ...]:
    return tuple(Crop(f"images/{name}.png", "tissue") for name in names)


def record(*crops: Crop, remark: str = "") -> Record:
    """Of a mammogram with two lesions, of which the second is the row's."""
    return Record("a.dcm", 1, 1, crops, region_remarks=("", remark), scaling="16 bit", facts={"hash": "0"})


@pytest.fixture
def row(miniature: Any) -> LesionView:
    miniature.add()
    miniature.write_tables()
    return read_tables(miniature.csv_dir)[0]


def test_refused_row_is_explained(row: LesionView) -> None:
    one = refused(row, Refusal("skipped", "kind", "reason"))
    assert (one.report.status, one.report.reason, one.report.outputs, one.kind) == ("skipped", "reason", (), "kind")
    assert one.report.patient == "P_00001"
    assert one.lesion is None


def test_item_carries_the_lesions_label_and_the_views_own(row: LesionView) -> None:
    another = Crop("images/another.png", "lesion", "masks/another.png", region=0)
    one = outcome(row, JOB, record(another, LESION, *tissue(*TISSUE)), {"pathology": "BENIGN"})
    assert one.lesion is not None
    assert one.lesion["pathology"] == "BENIGN"
    assert one.lesion["view_labels"]["pathology"] == "MALIGNANT"
    assert (one.lesion["zoom"], one.lesion["hash"]) == (0.5, "0")
    assert one.report.outputs == (*LESION.files, "images/tissue_1.png", "images/tissue_2.png")
    assert (one.report.status, one.report.reason, one.report.scaling) == ("crop", "", "16 bit")


def test_failed_lesion_is_an_error_even_with_tissue(row: LesionView) -> None:
    one = outcome(row, JOB, record(*tissue(*TISSUE), remark="no mask"), {})
    assert (one.report.status, one.report.reason) == ("error", "no mask")
    assert [item["image"] for item in one.tissue] == ["images/tissue_1.png", "images/tissue_2.png"]
    assert one.report.outputs == ("images/tissue_1.png", "images/tissue_2.png")


def test_fewer_tissue_crops_are_remarked_on(row: LesionView) -> None:
    one = outcome(row, ONLY_TISSUE, record(*tissue("tissue_1")), {})
    told = "a.dcm has tissue for 1 different crops only"
    assert (one.report.status, one.report.reason, len(one.tissue)) == ("crop", told, 1)
    none = outcome(row, ONLY_TISSUE, record(), {})
    assert (none.report.status, none.report.reason, none.tissue) == ("error", told.replace("1", "0"), [])


def test_a_mammogram_that_cannot_be_read_or_shows_nothing_says_why(row: LesionView) -> None:
    unread = outcome(row, JOB, InputError("a.dcm is damaged"), {})
    assert (unread.report.status, unread.report.reason, unread.kind) == (
        "error",
        "a.dcm is damaged",
        "unreadable or unfit files",
    )
    constant = outcome(row, JOB, Record("a.dcm", 1, 1, reason="constant", facts={"hash": "0"}), {})
    assert (constant.report.status, constant.report.reason) == ("error", "a.dcm: constant")
