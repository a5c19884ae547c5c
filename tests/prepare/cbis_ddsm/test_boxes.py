"""The table of boxes, and what `prepare_folder` and the detector's views make of it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miram.data.datalist import SPLITS, read_datalist
from miram.data.tasks import find_task
from miram.errors import InputError
from miram.inference.views import ViewRecords, find_views
from miram.prepare.boxes import read_boxes
from miram.prepare.cbis_ddsm.boxes import BoxSummary, write_boxes
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import read_png16

BOTH = CropSettings("both", 32, crops_per_image=2)


def write(miniature: Any, **options: Any) -> BoxSummary:
    """Write the tables, and then `boxes.csv` beside them, in this process."""
    miniature.write_tables()
    boxes_csv = miniature.csv_dir / "boxes.csv"
    return write_boxes(miniature.dicom_dir, miniature.csv_dir, boxes_csv, **{"workers": 0} | options)


def table(miniature: Any, name: str = "boxes.csv") -> list[dict[str, str]]:
    with open(miniature.csv_dir / name, newline="") as stream:
        return list(csv.DictReader(stream))


def numbers(row: dict[str, str]) -> list[str]:
    return [row[name] for name in ("x", "y", "width", "height")]


def prepare_views(miniature: Any, output: Path) -> dict[str, Any]:
    """Crops of both kinds from the mammograms of the table."""
    boxes_csv = miniature.csv_dir / "boxes.csv"
    prepare_folder(miniature.dicom_dir, output, FolderSettings(BOTH, boxes_csv=boxes_csv, only_listed=True, workers=0))
    return read_datalist(output)


@pytest.mark.parametrize("layout", ["classic", "descriptive", "idc"])
def test_a_row_has_the_box_in_pixels_of_the_mammogram(miniature: Any, layout: str) -> None:
    image = miniature.add(layout=layout, box=(30, 50, 20, 32))["image"]
    summary = write(miniature, validation_fraction=0)
    (row,) = table(miniature)
    assert miniature.dicom_dir / row["image"] == image
    assert numbers(row) == ["20", "30", "12", "20"]
    about = ("patient", "laterality", "view", "lesion", "split")
    assert [row[name] for name in about] == ["P_00001", "LEFT", "CC", "mass_P_00001_LEFT_1", "training"]
    assert summary.statuses == Counter(box=1)


def test_the_box_of_a_mask_of_another_size_is_scaled(miniature: Any) -> None:
    mask = np.zeros((48, 40), np.uint8)
    mask[30:40, 10:20] = 255
    miniature.add(mask=mask)
    write(miniature)
    assert numbers(table(miniature)[0]) == ["20", "60", "20", "20"]
    (told,) = table(miniature, "boxes_report.csv")
    assert (told["status"], told["reason"]) == ("box", "mask of 48 x 40 resized to 96 x 80 pixels")


def test_labels_are_those_of_the_lesion(miniature: Any) -> None:
    miniature.add(pathology="BENIGN", breast_density="0", **{"mass margins": "OBSCURED"})
    miniature.add(view="MLO", subtlety="3", **{"mass margins": "SPICULATED"})
    write(miniature)
    sources = [row["image"] for row in table(miniature)]
    read = read_boxes(miniature.csv_dir / "boxes.csv", sources)
    first, second = (read.lesions[source][0].labels for source in sources)
    assert first == {
        "pathology": "MALIGNANT",
        "abnormality": "mass",
        "mass_margins": ["OBSCURED", "SPICULATED"],
        "mass_shape": "OVAL",
        "calc_type": None,
        "calc_distribution": None,
        "density": None,
        "assessment": "4",
        "subtlety": "5",
    }
    assert (second["pathology"], second["density"], second["subtlety"]) == ("MALIGNANT", "2", "3")


def test_the_views_give_the_same_crops_and_splits_as_the_prepare_step(miniature: Any, tmp_path: Path) -> None:
    for number, table_name in enumerate(["mass_train"] * 4 + ["calc_test"] * 2):
        pathology = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")[number % 3]
        place = (20 + 5 * number, 40 + 5 * number, 8, 20)
        miniature.add(table_name, f"P_{number:05d}", box=place, pathology=pathology, separate=bool(number % 2))
    miniature.prepare(crops="both", validation_fraction=0.3, seed=2)
    expected = read_datalist(miniature.output_dir)
    write(miniature, validation_fraction=0.3, seed=2)
    split_of = {item["patient"]: split for split in SPLITS for item in expected[split]}
    assert {row["patient"]: row["split"] for row in table(miniature)} == split_of
    found = prepare_views(miniature, tmp_path / "views")
    for split in SPLITS:
        lesions, wanted = (
            {item["patient"]: item for item in datalist[split] if item["crop"] == "lesion"}
            for datalist in (found, expected)
        )
        assert lesions.keys() == wanted.keys() != set()
        for patient, item in lesions.items():
            pixels = read_png16(miniature.output_dir / wanted[patient]["image"])
            assert np.array_equal(read_png16(tmp_path / "views" / item["image"]), pixels)
            assert item["pathology"] == wanted[patient]["pathology"]
    assert find_task(found, "pathology").classes == find_task(expected, "pathology").classes == ("BENIGN", "MALIGNANT")


def test_masks_and_cropped_images_are_not_taken_for_tissue(miniature: Any, tmp_path: Path) -> None:
    paths = miniature.add()
    write(miniature, validation_fraction=0)
    datalist = prepare_views(miniature, tmp_path / "views")
    items = [item for split in SPLITS for item in datalist[split]]
    image = paths["image"].relative_to(miniature.dicom_dir).as_posix()
    assert [item["crop"] for item in items] == ["lesion", "tissue", "tissue"]
    assert {item["source"] for item in items} == {image}
    records = ViewRecords(tmp_path / "records", {})
    boxes_csv = miniature.csv_dir / "boxes.csv"
    (view,) = find_views(tmp_path / "views", "training", miniature.dicom_dir, boxes_csv, records, workers=0).todo
    assert view.source == image
    assert view.lesion_boxes((96, 80)).tolist() == [[10, 30, 30, 50]]


def test_a_lesion_without_a_usable_mask_keeps_its_mammogram_from_being_tissue(miniature: Any, tmp_path: Path) -> None:
    miniature.add()
    miniature.add(patient="P_00002")
    second = miniature.add(patient="P_00002", number=2)
    for name in ("mask", "crop"):
        second[name].unlink()
    miniature.add(patient="P_00003")["mask"].write_bytes(b"")
    miniature.add(patient="P_00004", mask=np.eye(50, 80, dtype=np.uint8))
    miniature.add(patient="P_00005")["image"].unlink()
    summary = write(miniature, validation_fraction=0)
    rows = {row["lesion"]: numbers(row) for row in table(miniature)}
    unknown = ["nan"] * 4
    assert rows == {
        "mass_P_00001_LEFT_1": ["10", "30", "20", "20"],
        "mass_P_00002_LEFT_1": ["10", "30", "20", "20"],
        "mass_P_00002_LEFT_2": unknown,
        "mass_P_00003_LEFT_1": unknown,
        "mass_P_00004_LEFT_1": unknown,
    }
    reasons = [row["reason"] for row in table(miniature, "boxes_report.csv") if row["status"] == "error"]
    assert reasons[0].startswith("mask: no file of series")
    assert "has more than two values" in reasons[1], "the cropped image is all that is left of the lesion's files"
    assert "a mask of 50 x 80 pixels, the mammogram has 96 x 80" in reasons[2]
    assert reasons[3].startswith("full mammogram: no file of series")
    kinds = {"mask missing": 1, "unreadable or unfit files": 2, "full mammogram missing": 1}
    assert (summary.statuses, summary.kinds) == (Counter(box=2, error=4), Counter(kinds))
    assert "6 table rows = 2 boxes + 0 skipped + 4 errors" in str(summary)
    assert "3 lesions are in it with nan for a box" in str(summary)
    datalist = prepare_views(miniature, tmp_path / "views")
    items = [item for split in SPLITS for item in datalist[split]]
    assert Counter((item["patient"], item["crop"]) for item in items) == {
        ("P_00001", "lesion"): 1,
        ("P_00001", "tissue"): 2,
        ("P_00002", "lesion"): 1,
    }


def test_training_rows_of_test_patients_and_repeated_rows_are_left_out(miniature: Any) -> None:
    miniature.add("mass_train", patient="P_00001")
    miniature.add("calc_test", patient="P_00001")
    miniature.rows["calc_case_description_test_set.csv"] *= 2
    summary = write(miniature)
    assert [(row["abnormality"], row["split"]) for row in table(miniature)] == [("calcification", "test")]
    assert summary.kinds == Counter({"training row of a patient who is in a test table": 1, "repeated row": 1})
    told = [(row["status"], row["image"]) for row in table(miniature, "boxes_report.csv")]
    assert told[0] == told[2] == ("skipped", "")


def test_strict_writes_nothing(miniature: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    miniature.add()
    unfit = miniature.add(patient="P_00002")["mask"]
    unfit.write_bytes(unfit.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"^1 rows have no box and --strict is set; the first: no mask of the lesion"):
        write(miniature, strict=True)
    miniature.add(patient="P_00003")["image"].unlink()
    monkeypatch.setattr("miram.prepare.cbis_ddsm.boxes.run_jobs", None)  # missing files are told of before any is read
    with pytest.raises(InputError, match="--strict is set; the first: full mammogram: no file of series"):
        write(miniature, strict=True)
    assert not list(miniature.csv_dir.glob("boxes*"))


def test_no_box_at_all_is_an_error(miniature: Any) -> None:
    paths = miniature.add()
    miniature.add(patient="P_00002")["image"].unlink()
    paths["image"].unlink()
    with pytest.raises(InputError, match=r"^none of the 2 rows of the tables gives a box; the first: full mammogram"):
        write(miniature)
    assert not list(miniature.csv_dir.glob("boxes*"))


def test_a_wrong_tolerance_is_told_of(miniature: Any) -> None:
    miniature.add()
    with pytest.raises(InputError, match=r"^--mask_tolerance is -1; give 0"):
        write(miniature, mask_tolerance=-1)
