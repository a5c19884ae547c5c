from __future__ import annotations

from typing import Any

import pytest

from miram.prepare.cbis_ddsm.items import outcome, refused
from miram.prepare.cbis_ddsm.lesions import CropSettings, ImageCrops
from miram.prepare.cbis_ddsm.plan import Refusal
from miram.prepare.cbis_ddsm.tables import LesionView, read_tables

NAME, TISSUE = "mass_P_00001_LEFT_CC_1", ("tissue_1", "tissue_2")


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
    one = outcome(row, ImageCrops({NAME: 0.5}, scaling="16 bit"), CropSettings("lesion"), (), {"pathology": "BENIGN"})
    assert one.lesion is not None
    assert one.lesion["pathology"] == "BENIGN"
    assert one.lesion["view_labels"]["pathology"] == "MALIGNANT"
    assert one.report.outputs == (f"images/{NAME}.png", f"masks/{NAME}.png")
    assert one.report.scaling == "16 bit"


def test_failed_lesion_is_an_error_even_with_tissue(row: LesionView) -> None:
    crops = ImageCrops({"tissue_1": 1.0, "tissue_2": 1.0}, {NAME: "no mask"})
    one = outcome(row, crops, CropSettings("both"), TISSUE, {})
    assert (one.report.status, one.report.reason) == ("error", "no mask")
    assert [item["image"] for item in one.tissue] == ["images/tissue_1.png", "images/tissue_2.png"]
    assert one.report.outputs == ("images/tissue_1.png", "images/tissue_2.png")


def test_fewer_tissue_crops_are_remarked_on(row: LesionView) -> None:
    one = outcome(row, ImageCrops({"tissue_1": 1.0}, {"tissue_2": "little tissue"}), CropSettings("tissue"), TISSUE, {})
    assert (one.report.status, one.report.reason, len(one.tissue)) == ("crop", "little tissue", 1)
    none = outcome(row, ImageCrops(problems=dict.fromkeys(TISSUE, "no tissue")), CropSettings("tissue"), TISSUE, {})
    assert (none.report.status, none.report.reason, none.tissue) == ("error", "no tissue", [])
