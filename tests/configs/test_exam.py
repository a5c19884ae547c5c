"""configs/exam.yaml and configs/exam_inference.yaml as a user runs them."""

import sys

import monai
import pandas as pd
import pytest
from monai.bundle import ConfigWorkflow

from ..causes import cause_of
from ..exam_case import make_backbone, make_views
from .conftest import run

TINY = {"max_epochs": 3, "hidden_size": 8, "attention_size": 4, "n_resamples": 20, "allow_leakage": "images"}


@pytest.fixture
def workflow(repository, tmp_path, monkeypatch):
    """Make a workflow in this process; what configs set is set back."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "argv", ["exam"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    make_backbone(tmp_path / "backbone.pt")

    def make(config, run_id, **options):
        options = {"device": "cpu", "runs_dir": str(tmp_path / "runs"), **options}
        return ConfigWorkflow(f"configs/{config}.yaml", logging_file=False, run_id=run_id, **options)

    yield make
    monai.data.set_track_meta(True)


def test_two_commands_from_prepared_views_to_a_table_of_breasts(workflow, tmp_path):
    views = make_views(tmp_path / "views", {"training": 6, "validation": 3, "test": 4})
    backbone = str(tmp_path / "backbone.pt")
    run(workflow("exam", "training", dataset_dir=str(views), backbone=backbone, **TINY))
    assert (tmp_path / "runs/exam_pathology/report.html").is_file()
    run(workflow("exam_inference", "evaluating", input=str(views / "images"), check_workers=0, num_pictures=1))
    found = tmp_path / "runs/exam_inference_pathology"
    table = pd.read_csv(found / "breasts.csv")
    assert len(table) == 13 + 2 + 1 + 2  # left breasts, and the right ones of patients 0 and 3 of each split
    assert len(list(found.glob("*.png"))) == 1
    assert (found / "executed_config.yaml").is_file()


def test_crops_are_refused(workflow, tmp_path):
    crops = make_views(tmp_path / "crops", {"training": 2}, crops="lesion")
    made = workflow("exam", "training", dataset_dir=str(crops), backbone=str(tmp_path / "backbone.pt"))
    made.initialize()
    with pytest.raises(Exception) as error:  # noqa: PT011
        made.run()
    assert "exam.yaml takes whole views" in cause_of(error.value)
