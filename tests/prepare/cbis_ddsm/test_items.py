from __future__ import annotations

from typing import Any

import pytest

from miram.errors import InputError
from miram.prepare.cbis_ddsm.items import outcome, refused
from miram.prepare.cbis_ddsm.plan import Refusal
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables
from miram.prepare.image_jobs import ImageJob
from miram.prepare.records import Crop, Record

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
