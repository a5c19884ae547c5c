"""A folder of everything to a prepared folder."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
from PIL import Image

from miram.data.datalist import describe, load_split, read_datalist
from miram.errors import InputError
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import read_png16
from miram.prepare.summary import Summary
from miram.readers.search import HIDDEN

from ..image_files import picture, write_dicom

MAMMOGRAMS = Path(__file__).parents[2] / "../shared/data/mammograms"
SMALL = CropSettings(crop_size=32, crops_per_image=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients of DICOM (two images of the first), a PNG, and files that are not images or cannot be read."""
    root = tmp_path / "in"
    (root / "deep/er").mkdir(parents=True)
    write_dicom(root / "1.dcm", picture(seed=1), PatientID="SECRET-1", ImageLaterality="L", ViewPosition="CC")
    write_dicom(root / "deep/2", picture(seed=2), PatientID="SECRET-1")
    write_dicom(root / "deep/er/3.dcm", picture(12, seed=3), 12, PatientID="SECRET-2")
    Image.fromarray(picture(seed=4)).save(root / "4.png")
    Image.fromarray(np.full((50, 50), 7, np.uint8)).save(root / "5.png")
    (root / "6.dcm").touch()
    (root / "notes.txt").write_text("text")
    (root / "._1.dcm").write_text("macOS")
    return root


def prepare(root: Path, name: str = "out", settings: CropSettings = SMALL, **options: Any) -> Summary:
    return prepare_folder(root, root.parent / name, FolderSettings(settings, workers=0, **options))


def report(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "report.csv", newline="") as stream:
        return {line["source"]: line for line in csv.DictReader(stream)}


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "images").iterdir())}


def test_every_file_is_crops_or_a_row_that_says_why(folder: Path) -> None:
    summary = prepare(folder)
    rows = report(summary.output_dir)
    assert {name: row["status"] for name, row in rows.items()} == {
        "1.dcm": "crop",
        "deep/2": "crop",
        "deep/er/3.dcm": "crop",
        "4.png": "crop",
        "5.png": "skipped",
        "6.dcm": "error",
        "notes.txt": "skipped",
        "._1.dcm": "skipped",
    }
    assert "empty" in rows["6.dcm"]["reason"]
    assert (summary.files, summary.images, summary.crops, summary.reused) == (8, 4, 12, 0)
    assert summary.reasons == {
        HIDDEN: 1,
        "not an image file": 1,
        "constant: every pixel has one value": 1,
        "could not be read": 1,
    }
    assert summary.origins == {"dicom": 3, "file": 1}
    listed = {name for row in rows.values() for name in row["outputs"].split(";") if name}
    assert listed == {f"images/{name}" for name in files(summary.output_dir)}


def test_the_data_list_follows_the_contract(folder: Path) -> None:
    output = prepare(folder).output_dir
    datalist = read_datalist(output)
    items = load_split(output, "training") + load_split(output, "validation")
    assert len(items) == 12
    assert {item["source"]: item["patient"] for item in items} == {
        "1.dcm": "patient_0001",
        "deep/2": "patient_0001",
        "deep/er/3.dcm": "patient_0002",
        "4.png": "4",
    }
    first = next(item for item in items if item["source"] == "1.dcm")
    assert (first["laterality"], first["view"], first["mask"]) == ("LEFT", "CC", None)
    assert read_png16(first["image"]).shape == (32, 32)
    assert datalist["test"] == []
    assert {"name", "modality", "source", "licence", "label_names"} <= set(datalist)
    assert datalist["generated"] is False


def test_no_patient_data_is_left_in_any_output(folder: Path) -> None:
    output = prepare(folder).output_dir
    for path in output.rglob("*"):
        assert "SECRET" not in path.name
        assert not path.is_file() or b"SECRET" not in path.read_bytes()


def test_a_second_run_does_only_what_is_missing(folder: Path) -> None:
    output = prepare(folder).output_dir
    before, datalist = files(output), (output / "datalist.json").read_text()
    times = {path: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    lost = sorted(times)[0]
    lost.unlink()
    (output / "datalist.json").unlink()
    summary = prepare(folder)
    assert summary.reused == 4  # three with crops and the constant one
    assert (files(output), (output / "datalist.json").read_text()) == (before, datalist)
    again = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert lost in again
    assert len(again) == SMALL.crops_per_image


def test_an_interrupted_run_continues(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import miram.prepare.image_jobs as module

    original, calls = module.read_image, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder)
    assert not (folder.parent / "out/datalist.json").exists()
    resumed = prepare(folder)
    assert resumed.reused == 2
    whole = prepare(folder, "uninterrupted")
    assert files(resumed.output_dir) == files(whole.output_dir)
    lists = [json.loads((one.output_dir / "datalist.json").read_text()) for one in (resumed, whole)]
    assert lists[0] | {"name": ""} == lists[1] | {"name": ""}


def test_workers_do_not_change_the_crops(folder: Path) -> None:
    one = prepare(folder)
    two = prepare_folder(folder, folder.parent / "two", FolderSettings(SMALL, workers=2))
    assert files(one.output_dir) == files(two.output_dir)


def test_the_seed_changes_the_windows_and_other_files_do_not(folder: Path) -> None:
    before = files(prepare(folder).output_dir)
    other = CropSettings(crop_size=32, crops_per_image=3, seed=1)
    assert files(prepare(folder, "seed", other).output_dir) != before
    Image.fromarray(picture(seed=9)).save(folder / "0.png")
    after = files(prepare(folder).output_dir)
    assert before.items() < after.items()


def test_changed_settings_are_refused_or_redone(folder: Path) -> None:
    output = prepare(folder).output_dir
    with pytest.raises(InputError, match="crop_size=32 then, 16 now"):
        prepare(folder, settings=CropSettings(crop_size=16))
    prepare(folder, settings=CropSettings(crop_size=16), overwrite=True)
    assert {read_png16(path).shape for path in (output / "images").iterdir()} == {(16, 16)}


def test_strict_stops_with_the_report_written(folder: Path) -> None:
    with pytest.raises(InputError, match=r"1 rows .* are errors .*6\.dcm"):
        prepare(folder, strict=True)
    assert report(folder.parent / "out")["6.dcm"]["status"] == "error"
    assert not (folder.parent / "out/datalist.json").exists()


def test_a_strict_stop_leaves_no_earlier_data_list_beside_the_new_report(folder: Path) -> None:
    output = prepare(folder).output_dir
    crops = files(output)
    with pytest.raises(InputError, match="--strict"):
        prepare(folder, strict=True)
    assert not (output / "datalist.json").exists()
    assert files(output) == crops, "a run that is not strict needs to cut nothing again"


def test_a_wrong_fraction_is_told_of_before_any_work(folder: Path) -> None:
    for name in ("validation_fraction", "test_fraction"):
        with pytest.raises(InputError, match=f"{name} is 1.0; give 0"):
            prepare(folder, **{name: 1.0})
    table = folder.parent / "labels.csv"
    table.write_text("image,split\n1.dcm,test\n")
    with pytest.raises(InputError, match="leave out --test_fraction"):
        prepare(folder, labels_csv=table, test_fraction=0.2)
    assert not (folder.parent / "out").exists()


def test_a_patient_in_two_splits_costs_no_earlier_data_list(folder: Path) -> None:
    output = prepare(folder).output_dir
    table = folder.parent / "labels.csv"
    table.write_text("image,patient,split\n1.dcm,p,test\n3.dcm,p,train\n")
    with pytest.raises(InputError, match="patient 'p' in test"):
        prepare(folder, labels_csv=table)
    assert (output / "datalist.json").exists()


def test_blank_cells_say_nothing(folder: Path) -> None:
    table = folder.parent / "labels.csv"
    table.write_text('image,split,density\n1.dcm,test,A\n3.dcm,"  ",\t\n')
    summary = prepare(folder, labels_csv=table, patient_pattern=r"(\d)")
    assert sum(summary.patients.values()) == 4
    assert read_datalist(summary.output_dir)["label_names"] == {"density": ["A"]}


def test_labels_are_carried_into_the_items(folder: Path) -> None:
    table = folder.parent / "labels.csv"
    table.write_text("image,patient,density,birads\n4.png,patient_0001,C,10\n3.dcm,,B,2\ngone.png,,A,1\n")
    summary = prepare(folder, labels_csv=table)
    output = summary.output_dir
    datalist = read_datalist(output)
    items = {item["source"]: item for item in datalist["training"] + datalist["validation"]}
    assert items["4.png"]["patient"] == items["1.dcm"]["patient"] == "patient_0001"
    assert [items[name]["density"] for name in ("4.png", "deep/er/3.dcm", "1.dcm")] == ["C", "B", None]
    assert datalist["label_names"] == {"density": ["B", "C"], "birads": ["2", "10"]}
    assert report(output)["labels.csv, line 4"]["status"] == "error"
    assert (summary.rows, summary.rows_without_image) == (3, 1)
    assert summary.reasons["could not be read"] == 1  # the row is not a file
    assert summary.origins == {"dicom": 3, "csv": 1}


def test_only_the_images_of_the_table_are_taken_if_that_is_wanted(folder: Path) -> None:
    table = folder.parent / "labels.csv"
    table.write_text("image,finding\n1.dcm,mass\n4.png,none\n")
    prepare(folder, labels_csv=table, only_listed=True)
    rows = report(folder.parent / "out")
    assert sorted(name for name, row in rows.items() if row["status"] == "crop") == ["1.dcm", "4.png"]
    left_out = [name for name, row in rows.items() if row["reason"] == "not in the table (--only_listed)"]
    assert left_out == ["5.png", "6.dcm", "deep/2", "deep/er/3.dcm"]
    with pytest.raises(InputError, match=r"^--only_listed leaves out what a table does not name; give --labels_csv"):
        prepare(folder, only_listed=True)


def test_a_test_split_is_drawn_or_named(folder: Path) -> None:
    drawn = prepare(folder, test_fraction=0.3, patient_pattern=r"(\d)")
    assert drawn.patients == {"training": 2, "validation": 1, "test": 1}
    table = folder.parent / "labels.csv"
    table.write_text("image,split,density\n1.dcm,test,A\n3.dcm,train,B\n")
    summary = prepare(folder, labels_csv=table)
    datalist = read_datalist(summary.output_dir)
    assert {item["source"] for item in datalist["test"]} == {"1.dcm", "deep/2"}  # all of a patient, where one is named
    assert datalist["label_names"] == {"density": ["A", "B"]}
    assert summary.tasks == ["density"]
    assert summary.labels["density"].classes == {"A": 1, "B": 1}
    assert summary.labels["density"].unknown == 2
    assert summary.patients == {"training": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("pattern", "training", "validation"),
    [
        (r"(\d)", 3, 1),  # a digit a file
        (r"(deep|^\d)", 2, 1),  # 1, 4 and deep
    ],
)
def test_a_pattern_finds_the_patients(folder: Path, pattern: str, training: int, validation: int) -> None:
    summary = prepare(folder, patient_pattern=pattern)
    assert summary.patients == {"training": training, "validation": validation, "test": 0}


def test_one_patient_alone_is_all_training(folder: Path) -> None:
    (folder / "4.png").unlink()
    (folder / "deep/er/3.dcm").unlink()
    summary = prepare(folder)
    assert summary.patients == {"training": 1, "validation": 0, "test": 0}


def test_a_folder_with_nothing_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("text")
    with pytest.raises(InputError, match=r"holds no image \(of 1 files\)"):
        prepare(tmp_path / "in")
    with pytest.raises(InputError, match="there is no folder"):
        prepare(tmp_path / "none")
    with pytest.raises(InputError, match="both"):
        prepare(tmp_path / "in", "in")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_which_nothing_can_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.dcm").touch()
    with pytest.raises(InputError, match=r"no image gave a crop; .*a\.dcm is empty"):
        prepare(tmp_path / "in")


def test_folders_that_cannot_be_looked_into_are_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "annexed.dcm").symlink_to("nowhere.dcm")
    (folder / "again").symlink_to(folder / "deep", target_is_directory=True)
    summary = prepare(folder)
    rows = report(summary.output_dir)
    assert (rows["annexed.dcm"]["status"], rows["again"]["status"]) == ("error", "skipped")
    assert "a link that leads nowhere" in rows["annexed.dcm"]["reason"]
    assert rows["again"]["reason"] == "a link to deep, which is found by that name"
    assert summary.images == 4


def test_names_that_are_not_utf8_are_shown_with_their_bytes(folder: Path) -> None:
    name = os.fsdecode(b"bild_\xe4.png")
    (folder / "4.png").rename(folder / name)
    for _ in range(2):  # a second run finds its record again
        summary = prepare(folder)
    assert summary.reused == 5
    assert report(summary.output_dir)[r"bild_\xe4.png"]["status"] == "crop"
    datalist = read_datalist(summary.output_dir)
    items = datalist["training"] + datalist["validation"]
    found = {(item["source"], item["patient"]) for item in items if item["source"].startswith("bild")}
    assert found == {(r"bild_\xe4.png", r"bild_\xe4")}


def test_the_output_may_lie_inside_the_input(folder: Path) -> None:
    for _ in range(2):
        summary = prepare(folder, "in/out")
        assert (summary.files, summary.images) == (8, 4)


def test_volumes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(picture(16, (40, 36, 30)), np.diag([0.5, 0.5, 2, 1])), tmp_path / "in/a.nii.gz")
    for suffix in ("mha", "nrrd"):
        itk.imwrite(itk.image_from_array(picture(16, (20, 10, 20))), str(tmp_path / f"in/b_{suffix}.{suffix}"))
    summary = prepare(tmp_path / "in", settings=CropSettings(crop_size=24, crops_per_image=2))
    assert (summary.images, summary.crops) == (3, 4)  # two windows, and two volumes that fit into one
    items = load_split(summary.output_dir, "training") + load_split(summary.output_dir, "validation")
    assert {item["patient"] for item in items} == {"a", "b_mha", "b_nrrd"}
    assert not [item["image"] for item in items if item["image"].count(".nii") > 1]
    for path in (summary.output_dir / "images").iterdir():
        volume: Any = nibabel.load(path)
        assert (volume.shape, volume.get_data_dtype()) == ((24, 24, 24), np.uint16)
        assert volume.header.get_zooms() == pytest.approx((0.5, 0.5, 2.0) if path.name.startswith("a") else (1, 1, 1))


def test_images_and_volumes_together_need_a_choice(folder: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(picture(16, (40, 36, 30)), np.eye(4)), folder / "a.nii")
    with pytest.raises(InputError, match=r"mixes 2D images .* and volumes \(a\.nii\); .*--spatial_dims"):
        prepare(folder)
    summary = prepare(folder, settings=CropSettings(crop_size=32, spatial_dims=2), overwrite=True)
    assert summary.images == 4
    assert report(summary.output_dir)["a.nii"]["reason"] == "a volume, while spatial_dims is 2"


@pytest.mark.skipif(not MAMMOGRAMS.is_dir(), reason="the real mammograms are not on this machine")
def test_real_mammograms_give_tissue(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("sample_B3.jpg", "sample_D3.jpg"):
        (tmp_path / "in" / name).symlink_to((MAMMOGRAMS / name).resolve())
    output = prepare(tmp_path / "in", settings=CropSettings(crops_per_image=6)).output_dir
    crops = [read_png16(path) for path in (output / "images").iterdir()]
    assert len(crops) == 12
    # Air is black in these images, and at most half of a window.
    assert all((crop < 3000).mean() <= 0.52 for crop in crops)


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    """Images of one study without PatientID, whose headers may mislead, and one more."""
    root = tmp_path / "in"
    root.mkdir()
    study = {"PatientID": "", "StudyInstanceUID": "1.2.3", "ImageLaterality": "L", "ViewPosition": "CC"}
    elements: dict[str, dict[str, Any]] = {
        "shown": {"PresentationIntentType": "FOR PRESENTATION"},
        "raw": {"PresentationIntentType": "FOR PROCESSING"},
        "spot": {"ViewPosition": "XCCL"},
        "implant": {"BreastImplantPresent": "YES"},
        "inverse": {"PresentationLUTShape": "INVERSE"},
        "window": {"WindowCenter": 100, "WindowWidth": 0},
        "other": {"StudyInstanceUID": "1.2.4", "PresentationIntentType": "FOR PROCESSING"},
    }
    for seed, (name, more) in enumerate(elements.items()):
        write_dicom(root / f"{name}.dcm", picture(seed=seed), **study | more)
    return root


def test_what_headers_say_is_counted_and_a_column_of_the_report(headers: Path) -> None:
    summary = prepare(headers)
    assert summary.notices == {"for_processing": 2, "other_views": 1, "implants": 1, "inverse_lut": 1}
    assert summary.pairs == 1
    rows = report(summary.output_dir)
    assert rows["raw.dcm"]["presentation_intent_type"] == "FOR PROCESSING"
    assert rows["spot.dcm"]["view"] == "XCCL"
    assert rows["implant.dcm"]["breast_implant_present"] == "YES"
    assert rows["inverse.dcm"]["presentation_lut_shape"] == "INVERSE"
    assert rows["window.dcm"]["status"] == "crop"
    assert "window of the header cannot be used and is ignored" in rows["window.dcm"]["reason"]


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [(["MG", "MG"], "MG"), (["MG", "US"], "mixed: MG, US"), (["MG", None], "mixed: MG, unknown"), ([None], "unknown")],
)
def test_the_data_list_has_the_modality_of_the_headers(tmp_path: Path, modalities, expected: str) -> None:
    (tmp_path / "in").mkdir()
    for number, modality in enumerate(modalities):
        write_dicom(tmp_path / f"in/{number}.dcm", picture(seed=number), **{"Modality": modality} if modality else {})
    summary = prepare(tmp_path / "in")
    assert describe(summary.output_dir)["modality"] == expected
    assert report(summary.output_dir)["0.dcm"]["modality"] == (modalities[0] or "")


def test_a_modality_that_is_not_a_term_of_dicom_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in/a.dcm", picture(), Modality="DOE JANE")
    assert describe(prepare(tmp_path / "in").output_dir)["modality"] == "unknown"


def test_images_of_one_study_have_the_same_key_which_is_not_its_uid(headers: Path) -> None:
    listed = read_datalist(prepare(headers).output_dir)
    studies: dict[str, set[str]] = {}
    for item in [item for split in ("training", "validation", "test") for item in listed[split]]:
        studies.setdefault(item["study"], set()).add(item["source"])
    assert sorted(map(len, studies.values())) == [1, 6]
    assert not {"1.2.3", "1.2.4"} & studies.keys()


def test_what_headers_say_may_be_left_out(headers: Path) -> None:
    chosen = CropSettings(crop_size=32, crops_per_image=3, leave_out=("for_processing", "implants"))
    summary = prepare(headers, settings=chosen)
    assert summary.notices == {"other_views": 1, "inverse_lut": 1}
    rows = report(summary.output_dir)
    assert {name for name, row in rows.items() if row["status"] == "skipped"} == {
        "raw.dcm",
        "other.dcm",
        "implant.dcm",
    }
    assert rows["raw.dcm"]["reason"] == "left out: for processing (raw), not for presentation"
    assert prepare(headers, settings=chosen).reused == 7  # the settings are known again
    with pytest.raises(InputError, match="leave_out 'nothing' is not one of"):
        CropSettings(leave_out=("nothing",))


def test_images_of_a_study_without_a_patient_stay_together(headers: Path) -> None:
    summary = prepare(headers)
    assert summary.origins == {"study": 7}
    rows = report(summary.output_dir)
    assert {row["patient"] for row in rows.values()} == {"patient_0001", "patient_0002"}
    assert "1.2.3" not in (summary.output_dir / "datalist.json").read_text()
