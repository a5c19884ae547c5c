from __future__ import annotations

import csv
import itertools
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from miram.data.datalist import load_split, read_datalist
from miram.errors import InputError
from miram.prepare.cbis_ddsm.prepare import _account, prepare_cbis_ddsm
from miram.prepare.cbis_ddsm.rows import Outcome
from miram.prepare.cbis_ddsm.tables import LABEL_NAMES, patients_in_test, read_tables
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import ReportRow, read_png16
from miram.prepare.records import Crop, Record


def report(miniature: Any) -> list[dict[str, str]]:
    with open(miniature.output_dir / "report.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def items(miniature: Any, split: str = "training") -> list[dict[str, Any]]:
    return read_datalist(miniature.output_dir)[split]


def without_hash(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "hash"}


def written(miniature: Any) -> dict[str, bytes]:
    """The crops, masks, list and report, by name."""
    paths = [path for path in miniature.output_dir.rglob("*") if path.is_file() and ".prepare" not in path.parts]
    return {path.relative_to(miniature.output_dir).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("layout", "separate", "mask_first"),
    itertools.product(["classic", "descriptive", "idc"], [False, True], [False, True]),
)
def test_crop_is_centred_on_the_lesion(miniature: Any, layout: str, separate: bool, mask_first: bool) -> None:
    paths = miniature.add(layout=layout, separate=separate, mask_first=mask_first, box=(30, 50, 20, 32))
    summary = miniature.prepare(validation_fraction=0)
    item = items(miniature)[0]
    name = "mass_P_00001_LEFT_CC_1"
    assert item["image"] == f"images/{name}.png"
    assert item["mask"] == f"masks/{name}.png"
    full = np.frombuffer(paths["image"].read_bytes()[-96 * 80 * 2 :], np.uint16).reshape(96, 80)
    assert np.array_equal(read_png16(miniature.output_dir / item["image"]), full[24:56, 10:42])
    mask = read_png16(miniature.output_dir / item["mask"]) == 65535
    assert np.array_equal(np.argwhere(mask)[[0, -1]], [[6, 10], [25, 21]])
    assert (summary.rows, summary.lesions, summary.statuses) == (1, 1, Counter(crop=1))


def test_item_holds_every_label(miniature: Any) -> None:
    miniature.add(box=(10, 50, 20, 40), pathology="BENIGN", **{"breast_density": "0", "mass margins": "OBSCURED"})
    miniature.add(view="MLO", subtlety="0", **{"mass margins": "SPICULATED-SPICULATED"})
    miniature.prepare(validation_fraction=0, context=1.6)
    assert re.fullmatch("[0-9a-f]{64}", items(miniature)[0]["hash"])
    assert without_hash(items(miniature)[0]) == {
        "image": "images/mass_P_00001_LEFT_CC_1.png",
        "mask": "masks/mass_P_00001_LEFT_CC_1.png",
        "crop": "lesion",
        "patient": "P_00001",
        "laterality": "LEFT",
        "view": "CC",
        "density": None,
        "lesion": "mass_P_00001_LEFT_1",
        "abnormality": "mass",
        "pathology": "MALIGNANT",
        "mass_margins": ["OBSCURED", "SPICULATED"],
        "mass_shape": ["OVAL"],
        "calc_type": None,
        "calc_distribution": None,
        "assessment": 4,
        "subtlety": 5,
        "view_labels": {
            "pathology": "BENIGN",
            "mass_margins": ["OBSCURED"],
            "mass_shape": ["OVAL"],
            "calc_type": None,
            "calc_distribution": None,
        },
        "zoom": 0.5,
    }
    assert items(miniature)[1]["subtlety"] is None
    datalist = read_datalist(miniature.output_dir)
    assert datalist["label_names"] == LABEL_NAMES
    assert (datalist["name"], datalist["modality"], datalist["licence"]) == ("CBIS-DDSM", "MG", "CC BY 3.0")
    assert datalist["generated"] is False


def test_patient_in_both_lists_stays_out_of_training(miniature: Any) -> None:
    miniature.add("mass_train", patient="P_00001")
    miniature.add("calc_test", patient="P_00001")
    miniature.add("mass_train", patient="P_00002")
    summary = miniature.prepare(validation_fraction=0)
    assert [item["patient"] for item in items(miniature)] == ["P_00002"]
    assert [item["lesion"] for item in items(miniature, "test")] == ["calcification_P_00001_LEFT_1"]
    skipped = report(miniature)[0]
    assert skipped["source"] == "mass_case_description_train_set.csv row 1"
    assert (skipped["status"], skipped["reason"], skipped["outputs"]) == ("skipped", "P_00001 is in a test table", "")
    assert summary.kinds == Counter({"training row of a patient who is in a test table": 1})
    assert not (miniature.output_dir / "images/mass_P_00001_LEFT_CC_1.png").exists()


def test_missing_test_table_is_warned_of(miniature: Any, caplog: pytest.LogCaptureFixture) -> None:
    miniature.add("mass_test")
    with caplog.at_level(logging.WARNING):
        miniature.prepare()
    assert [record.getMessage() for record in caplog.records] == [
        f"{miniature.csv_dir} lacks calc_case_description_test_set.csv: its patients cannot be kept out of training"
    ]


def test_missing_and_broken_files_are_rows_of_the_report(miniature: Any) -> None:
    kinds = {number: miniature.add(patient=f"P_0000{number}") for number in range(1, 7)}
    kinds[1]["image"].unlink()
    kinds[2]["image"].write_bytes(b"")
    for name in ("mask", "crop"):
        kinds[3][name].unlink()
    kinds[4]["mask"].unlink()
    kinds[5]["image"].write_bytes(kinds[5]["image"].read_bytes()[:-1000])
    summary = miniature.prepare(validation_fraction=0)
    rows = report(miniature)
    assert [row["status"] for row in rows] == ["error"] * 5 + ["crop"]
    assert rows[0]["reason"].startswith("full mammogram: no file of series")
    assert rows[1]["reason"].endswith("000000.dcm is not a readable DICOM file")
    assert rows[2]["reason"].startswith("mask: no file of series")
    assert "has more than two values" in rows[3]["reason"]
    assert kinds[5]["image"].name in rows[4]["reason"]
    assert summary.statuses == Counter(error=5, crop=1)
    assert summary.kinds == Counter({"full mammogram missing": 2, "mask missing": 1, "unreadable or unfit files": 2})
    assert "6 table rows = 1 with crops + 0 skipped + 5 errors" in str(summary)


@pytest.mark.parametrize("broken", ["missing", "truncated"])
def test_strict_stops(miniature: Any, broken: str) -> None:
    miniature.add(patient="P_00001")
    path = miniature.add(patient="P_00002")["image"]
    content = path.read_bytes()
    path.unlink()
    if broken == "truncated":
        path.write_bytes(content[:-1000])
    with pytest.raises(InputError, match="1 rows have no crop and --strict is set"):
        miniature.prepare(strict=True)
    assert not (miniature.output_dir / "datalist.json").exists()


def test_strict_stop_leaves_report_and_list_of_one_run(miniature: Any) -> None:
    miniature.add(patient="P_00001")
    path = miniature.add(patient="P_00002")["image"]
    miniature.prepare()
    before, content = written(miniature), path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match="strict"):
        miniature.prepare(strict=True)
    assert written(miniature) == before, "missing files are found before anything is written"
    path.write_bytes(content[:-1000])
    with pytest.raises(InputError, match="strict"):
        miniature.prepare(strict=True)
    assert [row["status"] for row in report(miniature)] == ["crop", "error"]
    assert not (miniature.output_dir / "datalist.json").exists()


def test_nothing_to_cut_is_bad_input(miniature: Any) -> None:
    """What a user with only the lesions' series sees."""
    miniature.add()["image"].unlink()
    with pytest.raises(InputError, match=r"no crop could be made.*full mammogram: no file of series"):
        miniature.prepare()
    assert [row["status"] for row in report(miniature)] == ["error"]
    assert not (miniature.output_dir / "datalist.json").exists()


def test_second_run_cuts_only_what_is_missing(miniature: Any) -> None:
    miniature.add(patient="P_00001")
    later = miniature.add(patient="P_00002")["image"]
    content = later.read_bytes()
    later.unlink()
    miniature.prepare(validation_fraction=0)
    assert [item["patient"] for item in items(miniature)] == ["P_00001"]
    first = miniature.output_dir / items(miniature)[0]["image"]
    before = first.stat().st_mtime_ns
    later.write_bytes(content)
    miniature.prepare(validation_fraction=0)
    assert [item["patient"] for item in items(miniature)] == ["P_00001", "P_00002"]
    assert first.stat().st_mtime_ns == before, "a crop that was whole is kept"
    second = miniature.output_dir / items(miniature)[1]["mask"]
    pixels = read_png16(second)
    second.unlink()
    miniature.prepare(validation_fraction=0)
    assert np.array_equal(read_png16(second), pixels), "a mask that was lost is written again"
    assert first.stat().st_mtime_ns == before


def test_replaced_file_is_cut_again(miniature: Any, dicom_writer: Any) -> None:
    path = miniature.add(box=(30, 50, 10, 30))["image"]
    miniature.prepare(validation_fraction=0)
    series = next(iter(read_tables(miniature.csv_dir))).image_series
    dicom_writer(path, np.full((96, 80), 777, np.uint16) + np.eye(96, 80, dtype=np.uint16), series)
    miniature.prepare(validation_fraction=0)
    assert set(np.unique(read_png16(miniature.output_dir / items(miniature)[0]["image"]))) == {777, 778}


def test_a_constant_mammogram_is_an_error_and_no_black_crop(miniature: Any, dicom_writer: Any) -> None:
    path = miniature.add(box=(30, 50, 10, 30))["image"]
    miniature.add(patient="P_00002")
    miniature.prepare(validation_fraction=0)  # which writes the tables
    series = next(iter(read_tables(miniature.csv_dir))).image_series
    dicom_writer(path, np.full((96, 80), 777, np.uint16), series)
    miniature.prepare(validation_fraction=0)
    assert [item["patient"] for item in items(miniature)] == ["P_00002"]
    assert report(miniature)[0]["reason"].endswith("000000.dcm: constant: every pixel has one value")


def test_a_crop_without_contrast_is_an_error(miniature: Any, dicom_writer: Any) -> None:
    path = miniature.add(box=(70, 76, 60, 66))["image"]
    miniature.write_tables()
    series = next(iter(read_tables(miniature.csv_dir))).image_series
    dicom_writer(path, np.pad(np.arange(20, dtype=np.uint16)[:, None], ((0, 76), (0, 79))), series)
    with pytest.raises(InputError, match=r"000000\.dcm is constant where the mask has the lesion"):
        miniature.prepare(validation_fraction=0)


def test_interrupted_run_continues_to_the_same_result(miniature: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from miram.prepare import image_jobs

    for number in range(1, 5):
        miniature.add(patient=f"P_0000{number}")
    miniature.prepare(crops="both")
    whole = written(miniature)
    miniature.output_dir = miniature.output_dir.with_name("again")
    left, read_image = [2], image_jobs.read_image

    def stop_after_two(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read_image(*arguments)

    monkeypatch.setattr(image_jobs, "read_image", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        miniature.prepare(crops="both")
    left[0] = 2
    miniature.prepare(crops="both")
    assert written(miniature) == whole
    assert left[0] == 0, "two mammograms were cut in each run"


def test_other_settings_need_another_folder(miniature: Any) -> None:
    miniature.add()
    miniature.prepare()
    with pytest.raises(InputError, match=r"was prepared with other settings \(crop_size=32 then, 48 now\); give"):
        miniature.prepare(crop_size=48)
    with pytest.raises(InputError, match=r"\(crops=lesion then, both now\)"):
        miniature.prepare(crops="both")
    miniature.prepare(seed=3, crops_per_image=9)  # neither decides a lesion's crop
    miniature.prepare(crop_size=48, overwrite=True)
    assert read_png16(miniature.output_dir / items(miniature)[0]["image"]).shape == (48, 48)


def test_settings_of_a_run_that_cut_nothing_may_change(miniature: Any) -> None:
    miniature.add()["image"].unlink()
    with pytest.raises(InputError, match="strict"):
        miniature.prepare(strict=True)
    with pytest.raises(InputError, match="no crop could be made"):
        miniature.prepare(crop_size=48)


def test_another_mask_tolerance_fits_the_masks_again(miniature: Any) -> None:
    mask = np.zeros((96, 84), np.uint8)
    mask[30:40, 10:20] = 255
    miniature.add(mask=mask)
    miniature.add(patient="P_00002")
    miniature.prepare(validation_fraction=0, mask_tolerance=0.01)
    assert [row["status"] for row in report(miniature)] == ["error", "crop"]
    miniature.prepare(validation_fraction=0)
    assert [row["status"] for row in report(miniature)] == ["crop", "crop"]


def test_a_renamed_lesion_is_cut_again(miniature: Any) -> None:
    miniature.add()
    miniature.prepare(validation_fraction=0)
    miniature.rows["mass_case_description_train_set.csv"][0]["abnormality id"] = "2"
    miniature.prepare(validation_fraction=0)
    assert [path.name for path in (miniature.output_dir / "images").iterdir()] == ["mass_P_00001_LEFT_CC_2.png"]


def test_a_folder_of_the_former_version_is_refused(miniature: Any) -> None:
    miniature.add()
    (miniature.output_dir / "images").mkdir(parents=True)
    (miniature.output_dir / ".prepare").mkdir()
    (miniature.output_dir / ".prepare/settings.json").write_text('{"crops": "lesion", "crop_size": 32}')
    with pytest.raises(InputError, match=r"an earlier version \(its .prepare holds no cbis_ddsm.key\)"):
        miniature.prepare()


@pytest.mark.parametrize("overwrite", [False, True])
def test_preparing_another_folder_into_it_leaves_it_whole(miniature: Any, overwrite: bool) -> None:
    miniature.add()
    miniature.prepare()
    before = {path: path.read_bytes() for path in miniature.output_dir.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"of another origin, .*; give another --output_dir$"):
        prepare_folder(miniature.dicom_dir, miniature.output_dir, FolderSettings(workers=0, overwrite=overwrite))
    assert {path: path.read_bytes() for path in miniature.output_dir.rglob("*") if path.is_file()} == before


def test_foreign_folder_is_not_written_to(miniature: Any) -> None:
    miniature.add()
    miniature.output_dir.mkdir()
    (miniature.output_dir / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt of another origin"):
        miniature.prepare()
    assert [path.name for path in miniature.output_dir.iterdir()] == ["thesis.txt"]


def test_a_folder_of_the_other_script_is_not_written_to(miniature: Any) -> None:
    miniature.add()
    settings = FolderSettings(CropSettings(crop_size=32), workers=0)
    prepare_folder(miniature.dicom_dir, miniature.output_dir, settings)
    before = written(miniature)
    with pytest.raises(InputError, match=r"of another origin, .* holds no cbis_ddsm.key"):
        miniature.prepare(crops="tissue", crops_per_image=32)
    assert written(miniature) == before


@pytest.mark.parametrize("crops", ["lesion", "tissue", "both"])
def test_kinds_of_crops(miniature: Any, crops: str) -> None:
    miniature.add(number=1)
    miniature.add(number=2, box=(60, 70, 5, 12))  # the same mammogram
    miniature.add("calc_test", patient="P_00002")
    summary = miniature.prepare(crops=crops, crops_per_image=3, validation_fraction=0)
    kinds = Counter((split, item["crop"]) for split in ("training", "test") for item in items(miniature, split))
    lesions = {("training", "lesion"): 2, ("test", "lesion"): 1}
    tissue = {("training", "tissue"): 3, ("test", "tissue"): 3}
    assert kinds == {"lesion": lesions, "tissue": tissue, "both": lesions | tissue}[crops]
    assert summary.statuses == Counter(crop=3)
    assert summary.lesions == (0 if crops == "tissue" else 3)
    outputs = {path for row in report(miniature) for path in row["outputs"].split(";")}
    assert outputs == {name for name in written(miniature) if name.endswith(".png")}


def test_a_whole_mammogram_has_all_its_lesions(miniature: Any) -> None:
    paths = miniature.add(number=1, pathology="BENIGN")
    miniature.add(number=2, box=(60, 70, 5, 12))  # the same mammogram
    miniature.add(view="MLO", number=1, pathology="BENIGN")
    paths["mask"].unlink()  # whole mammograms need no masks
    summary = miniature.prepare(crops="whole", crop_size=40, validation_fraction=0)
    found = {item["view"]: item for item in items(miniature)}
    assert [lesion["pathology"] for lesion in found["CC"]["lesions"]] == ["BENIGN", "MALIGNANT"]
    assert [lesion["pathology"] for lesion in found["MLO"]["lesions"]] == ["BENIGN"]
    assert (summary.statuses, summary.lesions) == (Counter(crop=3), 2), "one of them is in both views"
    assert {item["crop"] for item in found.values()} == {"whole"}
    assert read_png16(miniature.output_dir / found["CC"]["image"]).shape == (40, 40)
    assert found["CC"]["zoom"] == 40 / 96  # the mammogram has 96 x 80 pixels


def test_tissue_crop_is_tissue_without_lesion_labels(miniature: Any) -> None:
    paths = miniature.add()
    for name in ("mask", "crop"):
        paths[name].unlink()  # tissue needs the mammogram alone
    miniature.prepare(crops="tissue", crops_per_image=5, validation_fraction=0)
    assert without_hash(items(miniature)[0]) == {
        "image": "images/tissue_mass_P_00001_LEFT_CC_1.png",
        "mask": None,
        "crop": "tissue",
        "patient": "P_00001",
        "laterality": "LEFT",
        "view": "CC",
        "density": 2,
        "lesion": None,
        "zoom": 1.0,
    }
    crops = [read_png16(miniature.output_dir / item["image"]) for item in items(miniature)]
    assert len({crop.tobytes() for crop in crops}) == 5
    assert all((crop > 10_000).mean() >= 0.45 for crop in crops), "half is tissue, give or take the outline's error"


def test_tissue_beside_a_lesion_holds_no_pixel_of_it(miniature: Any) -> None:
    paths = miniature.add(box=(30, 50, 10, 30))
    miniature.prepare(crops="both", crop_size=16, crops_per_image=40, validation_fraction=0)
    image = pydicom.dcmread(paths["image"]).pixel_array
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16))
    crops = [read_png16(miniature.output_dir / item["image"]) for item in items(miniature) if item["crop"] == "tissue"]
    assert len(crops) > 10
    for crop in crops:
        ((row, column),) = np.argwhere((windows == crop).all(axis=(2, 3)))
        assert row + 16 <= 30 or row >= 50 or column + 16 <= 10 or column >= 30


def test_no_tissue_is_cut_where_the_mask_of_another_lesion_is_missing(miniature: Any) -> None:
    miniature.add(number=1)
    lost = miniature.add(number=2, box=(60, 70, 20, 30))
    for name in ("mask", "crop"):
        lost[name].unlink()
    miniature.prepare(crops="both", crop_size=16, validation_fraction=0)
    assert [item["crop"] for item in items(miniature)] == ["lesion"]
    assert [row["status"] for row in report(miniature)] == ["crop", "error"]


def test_tissue_crops_follow_the_seed_only(miniature: Any) -> None:
    miniature.add(patient="P_00001")
    miniature.add(patient="P_00002")
    miniature.prepare(crops="tissue")
    first = written(miniature)
    for name, seed in (("same", 0), ("other", 1)):
        miniature.output_dir = miniature.output_dir.with_name(name)
        miniature.prepare(crops="tissue", seed=seed, workers=2 if name == "same" else 0)
        images = {path: content for path, content in written(miniature).items() if path.startswith("images")}
        equal = [content == first[path] for path, content in images.items()]
        assert all(equal) if name == "same" else not any(equal)


def test_validation_is_drawn_by_patient(miniature: Any) -> None:
    for number, view in itertools.product(range(20), ("CC", "MLO")):
        pathology = "MALIGNANT" if number % 2 else "BENIGN"
        miniature.add(patient=f"P_{number:05d}", view=view, pathology=pathology)
    miniature.prepare(validation_fraction=0.2)
    validation = items(miniature, "validation")
    assert Counter(item["pathology"] for item in validation) == Counter(MALIGNANT=4, BENIGN=4)
    assert len({item["patient"] for item in validation}) == 4
    assert {item["patient"] for item in validation}.isdisjoint(item["patient"] for item in items(miniature))
    assert len(load_split(miniature.output_dir, "validation")) == 8


def test_a_wrong_fraction_is_told_of_before_any_work(miniature: Any) -> None:
    miniature.add()
    with pytest.raises(InputError, match=r"validation_fraction is 1\.0; give 0"):
        miniature.prepare(validation_fraction=1.0)
    assert not miniature.output_dir.exists()


def test_every_kind_of_crops_holds_out_the_same_patients(miniature: Any) -> None:
    for number in range(12):
        miniature.add(patient=f"P_{number:05d}", pathology="MALIGNANT" if number % 3 else "BENIGN")
    miniature.add("mass_test", patient="P_00099")
    held_out = []
    for crops in ("both", "lesion", "tissue"):
        miniature.output_dir = miniature.output_dir.with_name(crops)
        miniature.prepare(crops=crops, crops_per_image=1, validation_fraction=0.3)
        held_out.append({item["patient"] for item in items(miniature, "validation")})
    assert len(held_out[0]) == 4
    assert held_out[0] == held_out[1] == held_out[2]


def test_files_that_are_missing_do_not_change_the_split(miniature: Any, caplog: pytest.LogCaptureFixture) -> None:
    images = {f"P_{number:05d}": miniature.add(patient=f"P_{number:05d}")["image"] for number in range(5)}
    miniature.prepare()
    (held_out,) = {item["patient"] for item in items(miniature, "validation")}
    training = sorted(set(images) - {held_out})
    images[training[0]].unlink()
    miniature.prepare()
    assert {item["patient"] for item in items(miniature, "validation")} == {held_out}
    assert "cannot validate" not in caplog.text
    images[held_out].unlink()
    miniature.prepare()
    assert [item["patient"] for item in items(miniature)] == training[1:]
    assert "none of the 1 validation patients has a crop: a run cannot validate" in caplog.text


def test_mask_of_another_resolution_is_noted(miniature: Any) -> None:
    mask = np.zeros((48, 40), np.uint8)
    mask[30:40, 10:20] = 255
    path = miniature.add(mask=mask)["image"]
    miniature.prepare(validation_fraction=0)
    assert report(miniature)[0]["status"] == "crop"
    assert report(miniature)[0]["reason"] == "mask of 48 x 40 resized to 96 x 80 pixels"
    full = np.frombuffer(path.read_bytes()[-96 * 80 * 2 :], np.uint16).reshape(96, 80)
    crop = read_png16(miniature.output_dir / items(miniature)[0]["image"])
    assert np.array_equal(crop, full[54:86, 14:46]), "around row 70, column 30 of the mammogram"


@pytest.mark.parametrize(
    ("status", "outputs", "told"),
    [("crop", (), "1 crops were made and .* name 0"), ("error", ("images/a.png",), "row 1 has no crop and no reason")],
)
def test_a_row_or_crop_that_is_not_accounted_for_is_a_bug(status: str, outputs: tuple[str, ...], told: str) -> None:
    with pytest.raises(RuntimeError, match=told):
        _account(
            [Outcome(ReportRow("row 1", status, outputs=outputs))],
            [Record("a.dcm", 1, 1, (Crop("images/a.png", "tissue"),))],
        )


def test_outputs_hold_no_header_data(miniature: Any) -> None:
    miniature.add()
    miniature.prepare()
    assert not [name for name, content in written(miniature).items() if b"not the table's" in content]


def test_repeated_row_is_skipped(miniature: Any) -> None:
    miniature.add()
    miniature.rows["mass_case_description_train_set.csv"] *= 2
    summary = miniature.prepare(validation_fraction=0)
    assert summary.kinds == Counter({"repeated row": 1})
    assert len(items(miniature)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"crops": "half"}, "^crops 'half' is not one of"),
        ({"crop_size": 8}, "^--crop_size is 8; give 16"),
        ({"mask_tolerance": -0.1}, "^--mask_tolerance is -0.1; give 0"),
        ({"context": 0.5}, "^context is 0.5"),
        ({"crops_per_image": 0}, "crops_per_image"),
        ({"seed": -1}, "^seed is -1"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"workers": -1}, "workers"),
    ],
)
def test_wrong_arguments_are_told_of_before_any_work(miniature: Any, arguments: dict[str, Any], told: str) -> None:
    miniature.add()
    with pytest.raises(InputError, match=told):
        miniature.prepare(**arguments)
    assert not (miniature.output_dir / "images").exists()


def test_a_wrong_folder_of_files_leaves_no_output(miniature: Any) -> None:
    miniature.add()
    miniature.dicom_dir = miniature.dicom_dir / "typo"
    with pytest.raises(InputError, match="typo is not a folder"):
        miniature.prepare()
    assert not miniature.output_dir.exists()


def test_rows_of_the_published_tables(real_tables: Path, miniature: Any, dicom_writer: Any) -> None:
    """Stand-ins for every 60th row, and the rows of five patients who are in both lists."""
    rows = read_tables(real_tables)
    both = sorted(patients_in_test(rows) & {row.patient for row in rows if row.split == "training"})[:5]
    present = [row for number, row in enumerate(rows) if number % 60 == 0 or row.patient in both]
    for number, row in enumerate(present):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 20:40] = 255
        image = np.random.default_rng(number).integers(0, 65535, mask.shape).astype(np.uint16)
        dicom_writer(miniature.dicom_dir / f"{number}" / "image.dcm", image, row.image_series)
        crop, masks = row.lesion_series[0], row.lesion_series[-1]
        dicom_writer(miniature.dicom_dir / f"{number}" / "0.dcm", image[10:20, 20:40].copy(), crop)
        dicom_writer(miniature.dicom_dir / f"{number}" / "1.dcm", mask, masks)
    settings = CropSettings("lesion", 32)
    summary = prepare_cbis_ddsm(miniature.dicom_dir, real_tables, miniature.output_dir, settings, workers=0)
    leaking = sum(row.split == "training" and row.patient in both for row in present)
    assert summary.rows == 3568
    assert summary.statuses["crop"] == len(present) - leaking - sum(
        row.split == "training" and row.patient in patients_in_test(rows) and row.patient not in both for row in present
    )
    assert summary.kinds["training row of a patient who is in a test table"] == 83
    assert summary.statuses.total() == 3568
    splits = {
        split: {item["patient"] for item in items(miniature, split)} for split in ("training", "validation", "test")
    }
    assert all(splits.values())
    assert not any(first & second for first, second in itertools.combinations(splits.values(), 2))
    assert json.loads((miniature.output_dir / "datalist.json").read_text())["label_names"] == LABEL_NAMES
