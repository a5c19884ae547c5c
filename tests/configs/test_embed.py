"""configs/embed.yaml as a user runs it."""

import sys

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from ..causes import cause_of
from ..exam_case import make_backbone, make_views
from .conftest import run


def test_a_folder_becomes_features_and_neighbours(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["embed"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(repository)
    views = make_views(tmp_path / "views", {"training": 3, "validation": 1})
    common = {"workflow_type": "infer", "run_id": "evaluating", "logging_file": False, "device": "cpu"}
    paths = {"backbone": str(make_backbone(tmp_path / "backbone.pt")), "output_dir": str(tmp_path / "out")}
    query = "images/training0_LEFT_CC.png"
    run(ConfigWorkflow(["configs/embed.yaml"], input=str(views), neighbours=query, num_neighbours=2, **common, **paths))
    with np.load(tmp_path / "out/features.npz", allow_pickle=False) as content:
        assert query in content["file"].tolist()
        assert content["token"].shape == content["mean"].shape == (len(content["file"]), 24)
    assert (tmp_path / "out/neighbours.png").is_file()
    with pytest.raises(RuntimeError) as error:
        run(ConfigWorkflow(["configs/embed.yaml"], **common, **paths))
    assert "give --input" in cause_of(error.value)
