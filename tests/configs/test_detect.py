"""configs/detect.yaml and configs/hard_negatives.yaml as a user runs them, over configs/riskmap.yaml."""

import json
import sys

import monai
import numpy as np
import pandas as pd
import pytest
from monai.bundle import ConfigWorkflow

from miram.data.datalist import load_split, read_datalist
from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import read_png16, write_png16

from ..causes import cause_of
from ..classifier_case import make_classifier, save_model
from ..image_files import write_dicom
from .conftest import run

CROP = 40
SPLITS = {"p0": "training", "p1": "training", "p2": "validation", "p3": "test", "p4": "test"}
LESION, OTHER = (40, 60), (150, 60)  # first pixels, row and column: a square with a box, and one without


def view(number):
    """Tissue in air, with a bright square that is a lesion, and in one view of a patient another that is not."""
    rng = np.random.default_rng(number)
    image = np.zeros((200, 160), np.uint16)
    image[10:-10, :120] = rng.integers(10_000, 30_000, size=(180, 120))
    for row, column in (LESION, OTHER)[: 1 + number % 2]:
        image[row : row + 8, column : column + 8] = 60_000
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("detect")
    save_model(path / "model.pt", make_classifier(steps=150), "lesion", "binary", ["tissue", "lesion"])
    rows = []
    for number, (patient, split) in enumerate((patient, split) for patient, split in SPLITS.items() for _ in range(2)):
        name = "9.dcm" if number == 9 else f"{number}.png"
        if number == 9:
            write_dicom(path / "views/9.dcm", view(number), ImagerPixelSpacing=[0.1, 0.2])
        else:
            write_png16(path / f"views/{name}", view(number))
        row, column = LESION
        rows.append([name, patient, split, "1", column - 2, row - 2, 12, 12])
    names = ["image", "patient", "split", "lesion", "x", "y", "width", "height"]
    pd.DataFrame(rows, columns=names).to_csv(path / "boxes.csv", index=False)
    settings = CropSettings(crops="both", crop_size=CROP, crops_per_image=2)
    prepare_folder(path / "views", path / "data", FolderSettings(settings, boxes_csv=path / "boxes.csv", workers=0))
    return path


@pytest.fixture
def workflow(repository, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["riskmap"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(repository)
    paths = {"input": str(folder / "views"), "model": str(folder / "model.pt"), "dataset_dir": str(folder / "data")}
    common = {"calibration_file": None, "boxes_csv": str(folder / "boxes.csv"), "device": "cpu", "check_workers": 0}

    def make(overlay, **options):
        return ConfigWorkflow(
            ["configs/riskmap.yaml", f"configs/{overlay}.yaml"],
            **{"workflow_type": "infer", "run_id": "evaluating", "logging_file": False},
            **{**paths, **common, "output_dir": str(tmp_path / "run"), "overlap": 0.75, **options},
        )

    yield make
    monai.data.set_track_meta(True)


def test_lesions_of_the_test_patients_are_found_and_reported(workflow, folder, tmp_path):
    run(workflow("detect", min_patients=2, n_resamples=50))
    found = json.loads((tmp_path / "run/detection.json").read_text())
    assert found["counts"] | {"candidates": 0} == {
        **{"images": 4, "images without a lesion": 0, "patients": 2, "boxes": 4, "lesions": 2, "candidates": 0}
    }
    assert found["box_size"] == [12, 12]
    assert found["sensitivity"]["center"]["lesion"]["2"]["value"] == 1
    table = pd.read_csv(tmp_path / "run/candidates.csv")
    assert set(table["patient"]) == {"p3", "p4"}
    best = table[(table["rank"] == 1) & table["hit"]].iloc[0]
    assert (best["x"] + 6, best["y"] + 6) == pytest.approx((LESION[1] + 4, LESION[0] + 4), abs=6)
    assert best[["width_mm", "height_mm"]].isna().all()  # a PNG does not say how large its pixels are
    dicom = table[(table["image"] == "9.dcm") & table["hit"]].iloc[0]
    assert (dicom["x"] + 6, dicom["y"] + 6) == pytest.approx((LESION[1] + 4, LESION[0] + 4), abs=6)
    assert (dicom["width_mm"], dicom["height_mm"]) == pytest.approx((12 * 0.2, 12 * 0.1))
    coco = json.loads((tmp_path / "run/candidates.json").read_text())
    assert len(coco["annotations"]) == len(table) == found["counts"]["candidates"]
    assert coco["images"][0] | {"id": 0} == {"id": 0, "file_name": "6.png", "width": 160, "height": 200}
    report = (tmp_path / "run/report.html").read_text()
    assert "centre in the box" in report
    assert report.count("data:image/png") >= 2


def test_a_second_run_searches_only_what_is_missing(workflow, tmp_path):
    run(workflow("detect", n_resamples=20, num_pictures=1, max_patients=1))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/views").glob("*.json")}
    made = workflow("detect", n_resamples=20, num_pictures=1)
    run(made)
    after = list((tmp_path / "run/views").glob("*.json"))
    assert len(before) == 3  # settings, and two views of a patient
    assert len(after) == 5
    kept = {path for path in before if path.name != "settings.json"}
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)
    with pytest.raises(RuntimeError) as error:
        run(workflow("detect", overlap=0.5))
    assert "with other settings found (overlap)" in cause_of(error.value)


def test_false_alarms_of_training_views_become_crops_of_tissue(workflow, folder):
    run(workflow("hard_negatives", min_probability=0.5))
    items = [item for item in load_split(folder / "data", "training") if "mined_by" in item]
    assert {item["source"] for item in items} == {"1.png", "3.png"}  # training views with the other square
    for item in items:
        crop = read_png16(item["image"])
        assert crop.shape == (CROP, CROP)
        assert (crop == 60_000).sum() > 0
        assert (item["crop"], item["lesion"], item["mask"]) == ("tissue", None, None)
        assert item["mined_probability"] >= 0.5
    run(workflow("hard_negatives", min_probability=0.5))  # adds nothing twice
    listed = read_datalist(folder / "data")
    assert sum("mined_by" in item for item in listed["training"]) == len(items)
    assert not any("mined_by" in item for split in ("validation", "test") for item in listed[split])


def test_views_of_another_folder_are_an_error(workflow, tmp_path):
    write_png16(tmp_path / "other/x.png", view(0))
    with pytest.raises(RuntimeError) as error:
        run(workflow("detect", input=str(tmp_path / "other")))
    assert "names an image" in cause_of(error.value)
    with pytest.raises(RuntimeError) as error:
        run(workflow("detect", boxes_csv=None))
    assert "give --boxes_csv" in cause_of(error.value)
