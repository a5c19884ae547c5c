"""configs/detector.yaml and configs/detector_inference.yaml as a user runs them."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from miram.provenance.description import describe_file

from ..causes import cause_of
from ..detection_case import SHAPE, SIDE, lesion_view, make_lesion_views
from ..exam_case import make_backbone
from ..image_files import write_dicom
from .conftest import run

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def as_a_user():
    """In the repository, without the options of the test runner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["detector"])
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.chdir(REPOSITORY)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = make_lesion_views(tmp_path_factory.mktemp("detector"))
    torch.manual_seed(0)
    make_backbone(path / "backbone.pt")
    return path


def make(config, run_id, **options):
    common = {"device": "cpu", "precision": "float32", "check_workers": 0, "logging_file": False}
    return ConfigWorkflow(
        [f"configs/{config}.yaml"], **{"workflow_type": "train", "run_id": run_id, **common}, **options
    )


def detector(folder, run_id="training", **options):
    paths = {"input": "views", "dataset_dir": "data", "boxes_csv": "boxes.csv", "backbone": "backbone.pt"}
    settings = {"crop_tokens": [12, 8], "learning_rate": 1e-2, "batch_size": 4, "max_epochs": 30}
    settings |= {"n_resamples": 20, "min_patients": 2, "progress": False, "output_dir": str(folder / "run")}
    return make("detector", run_id, **{name: str(folder / path) for name, path in paths.items()} | settings | options)


@pytest.fixture(scope="module")
def trained(folder):
    """The output of a run, trained once for all tests."""
    run(detector(folder))
    return folder / "run"


def test_lesions_of_the_test_patients_are_found_and_reported(trained):
    found = json.loads((trained / "detection.json").read_text())
    assert found["split"] == "test"
    assert found["counts"] | {"candidates": 0} == {
        **{"images": 4, "images without a lesion": 0, "patients": 2, "boxes": 4, "lesions": 2, "candidates": 0}
    }
    assert found["sensitivity"]["center"]["box"]["1"]["value"] >= 0.75
    table = pd.read_csv(trained / "candidates.csv")
    assert (table[["x", "y"]] >= 0).all(axis=None)
    ends = table["x"] + table["width"], table["y"] + table["height"]  # the table rounds to six digits
    assert ends[0].max() < SHAPE[1] + 1e-3
    assert ends[1].max() < SHAPE[0] + 1e-3
    best = table[(table["rank"] == 1) & table["hit"]]
    assert len(best) >= 3
    assert best["width"].mean() == pytest.approx(SIDE, abs=8)
    history = pd.read_csv(trained / "history.csv")
    assert list(history["epoch"]) == list(range(1, 31))
    assert history["val_froc"].max() == pytest.approx(found["model"]["validation"]["val_froc"], rel=1e-5)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert (trained / "report.html").read_text().count("data:image/png") >= 2


def test_the_file_tells_where_it_comes_from(trained):
    found = describe_file(trained / "detector.pt")
    assert (found["kind"], found["provenance"]["training_views"]) == ("detector", 16)
    assert set(found["thresholds"]) == {"0.25", "0.5", "1", "2", "4"}
    assert json.dumps(found)


def test_a_finished_run_trains_nothing_again(trained, folder):
    before = (trained / "detector.pt").read_bytes()
    run(detector(folder))
    assert (trained / "detector.pt").read_bytes() == before


def test_a_detector_is_evaluated_on_another_split(trained, folder, tmp_path):
    model = str(trained / "detector.pt")
    options = {"model": model, "split": "validation", "output_dir": str(tmp_path), "backbone": "not needed"}
    run(detector(folder, "evaluating", **options))
    found = json.loads((tmp_path / "detection.json").read_text())
    assert (found["split"], found["counts"]["patients"]) == ("validation", 2)
    assert "only a test split" in (tmp_path / "report.html").read_text()


def test_a_run_does_not_go_on_with_another_encoder_or_other_anchors(trained, folder):
    torch.manual_seed(5)
    make_backbone(folder / "other.pt")
    for options, changed in (
        ({"backbone": str(folder / "other.pt")}, "weights"),
        ({"anchor_sizes": [20, 21, 22, 30, 31, 32]}, "anchor_sizes"),
    ):
        with pytest.raises(RuntimeError) as error:
            run(detector(folder, max_epochs=31, **options))
        assert f"the checkpoint was made with other {changed}" in cause_of(error.value)


def test_a_users_folder_gets_boxes_pictures_and_reasons(trained, tmp_path):
    view, (x, y, _, _) = lesion_view(np.random.default_rng(9))
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in/a.dcm", view, ImagerPixelSpacing=[0.1, 0.2], ImageLaterality="L")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    options = {"input": str(tmp_path / "in"), "model": str(trained / "detector.pt")}
    run(make("detector_inference", "evaluating", output_dir=str(tmp_path / "out"), **options))
    table = pd.read_csv(tmp_path / "out/candidates.csv")
    first = table.iloc[0]
    center = first["x"] + first["width"] / 2, first["y"] + first["height"] / 2
    assert center == pytest.approx((x + SIDE / 2, y + SIDE / 2), abs=SIDE / 2)  # it is in the lesion
    assert first["width_mm"] == pytest.approx(0.2 * first["width"], rel=1e-3)
    assert first["laterality"] == "LEFT"
    images = pd.read_csv(tmp_path / "out/images.csv")
    assert list(images["image"]) == ["a.dcm", "bad.png"]
    assert images["candidates"].iloc[0] == len(table)
    assert "cannot be read" in images["problem"].iloc[1]
    facts = json.loads((tmp_path / "out/detections.json").read_text())
    assert (table["score"] > facts["threshold"]).all()
    assert (tmp_path / "out/a.png").is_file()
    coco = json.loads((tmp_path / "out/candidates.json").read_text())
    assert len(coco["annotations"]) == len(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_alarms": 3}, "give one of 0.25, 0.5, 1, 2, 4"),
        ({"false_alarms": "many"}, "give one of 0.25, 0.5, 1, 2, 4"),
        ({"model": "nowhere.pt"}, "train one with configs/detector.yaml"),
        ({"model": "backbone.pt"}, "is not a detector"),
        ({"input": None}, "give --input"),
        ({"smallest_view": "large"}, "give a number of pixels"),
    ],
)
def test_what_cannot_be_done_is_said(trained, folder, tmp_path, options, message):
    given = {"input": str(folder / "views"), "model": str(trained / "detector.pt"), **options}
    given["model"] = str(folder / given["model"])
    with pytest.raises(RuntimeError) as error:
        run(make("detector_inference", "evaluating", output_dir=str(tmp_path), **given))
    assert message in cause_of(error.value)
