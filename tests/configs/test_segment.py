"""configs/segment.yaml and configs/segment_evaluate.yaml as a user runs them, in small."""

from __future__ import annotations

import json
import sys

import monai
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from miram.data.datalist import write_datalist
from miram.networks.segmenter import ViTSegmenter
from miram.networks.vit_encoder import ViTEncoder
from miram.prepare.prepared import write_png16, write_volume
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.classifier import load_classifier

from ..causes import cause_of
from .conftest import run

SIZES = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


@pytest.fixture(autouse=True)
def _as_before(repository, monkeypatch):
    """A config changes a process that is its own: put back what it changed."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    monai.data.set_track_meta(True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 crops with a bright disc and its mask, and 10 of tissue, of 20 patients."""
    path = tmp_path_factory.mktemp("segment")
    random = np.random.default_rng(0)
    items = []
    rows, columns = np.indices((80, 80))
    for n in range(40):
        pixels = random.integers(0, 20000, (80, 80))
        item = {"image": f"images/{n}.png", "mask": None, "patient": f"p{n // 2}", "crop": "tissue", "lesion": None}
        if n % 4:
            center = random.integers(25, 56, 2)
            disc = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < 12**2
            pixels += 40000 * disc
            item |= {"mask": f"masks/{n}.png", "crop": "lesion", "lesion": f"p{n // 2}/1"}
            write_png16(path / item["mask"], (disc * 65535).astype(np.uint16))
        write_png16(path / item["image"], pixels.astype(np.uint16))
        items.append(item)
    splits = {"training": items[:28], "validation": items[28:32], "test": items[32:]}
    write_datalist(path, {"name": "discs", "generated": True, **splits})
    save_weights_file(
        path / "backbone.pt", backbone_from_encoder(ViTEncoder(1, 32, 8, **SIZES), RANGE, {"scales": [1, 2]})
    )
    return path


def training(folder, output, **overrides):
    sizes = {"max_epochs": 20, "warmup_epochs": 1, "batch_size": 7, "num_workers": 0, "device": "cpu"}
    rates = {"base_learning_rate": 0.3, "layer_decay": 1.0, "feature_size": 8, "drop_path_rate": 0.0, "val_interval": 5}
    paths = {"dataset_dir": str(folder), "pretrained": str(folder / "backbone.pt"), "output_dir": str(output)}
    return ConfigWorkflow(
        ["configs/finetune.yaml", "configs/segment.yaml"],
        **{"logging_file": False, "workflow_type": "train", "progress": False, **sizes, **rates, **paths, **overrides},
    )


def evaluating(folder, output, **overrides):
    paths = {"dataset_dir": str(folder), "output_dir": str(output), "device": "cpu", "num_workers": 0}
    return ConfigWorkflow(
        "configs/segment_evaluate.yaml",
        **{"logging_file": False, "workflow_type": "infer", "run_id": "evaluating", **paths, **overrides},
    )


def test_discs_are_segmented(folder, tmp_path, monkeypatch):
    run(training(folder, tmp_path / "run"))
    network, content = load_classifier(tmp_path / "run/model.pt", ViTSegmenter)
    assert content["task"] == {"name": "segmentation", "type": "binary", "classes": ["background", "lesion"]}
    assert content["provenance"]["validation"]["val_dice"] > 0.7
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 1, 32, 32)
    monkeypatch.setattr(sys, "argv", ["evaluate"])
    run(evaluating(folder, tmp_path / "out", model=str(tmp_path / "run/model.pt"), min_patients=2, n_resamples=50))
    table = pd.read_csv(tmp_path / "out/segmentation.csv")
    assert len(table) == 8
    assert table["dice"].notna().sum() == 6  # two images are tissue
    found = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert found["levels"]["image"]["dice"]["value"] == pytest.approx(table["dice"].mean(), abs=1e-4)
    assert found["levels"]["image"]["dice"]["value"] > 0.6
    assert found["levels"]["lesion"]["dice"]["n_units"] == 4
    assert found["levels"]["image"]["hd95"]["value"] < 20
    report = (tmp_path / "out/report.html").read_text()
    assert "generated data" in report
    assert report.count("data:image/png") == 1


def test_a_frozen_encoder_keeps_its_weights(folder, tmp_path):
    run(training(folder, tmp_path / "run", mode="frozen", max_epochs=1, val_interval=1))
    network, _ = load_classifier(tmp_path / "run/model.pt", ViTSegmenter)
    before = torch.load(folder / "backbone.pt", weights_only=True)["state_dict"]
    for key, value in before.items():
        torch.testing.assert_close(network.encoder.state_dict()[key], value)


def test_a_folder_without_masks_is_an_error(tmp_path, folder):
    items = [{"image": f"{n}.png", "patient": f"p{n}", "mask": None} for n in range(4)]
    for n, item in enumerate(items):
        write_png16(tmp_path / item["image"], np.random.default_rng(n).integers(65536, size=(80, 80)).astype(np.uint16))
    write_datalist(tmp_path, {"training": items[:2], "validation": items[2:], "test": []})
    with pytest.raises(RuntimeError) as error:
        run(training(tmp_path, tmp_path / "run", pretrained=str(folder / "backbone.pt")))
    assert "has a mask" in cause_of(error.value)


def test_volumes_are_segmented(tmp_path):
    items = []
    for n in range(6):
        item = {"image": f"{n}.nii.gz", "mask": f"mask_{n}.nii.gz", "patient": f"p{n}", "lesion": f"p{n}/1"}
        volume = np.random.default_rng(n).integers(0, 20000, size=(40, 40, 40)).astype(np.uint16)
        ball = np.square(np.indices(volume.shape) - 20).sum(axis=0) < 10**2
        write_volume(tmp_path / item["image"], volume + (40000 * ball).astype(np.uint16), None)
        write_volume(tmp_path / item["mask"], (65535 * ball).astype(np.uint16), None)
        items.append(item)
    write_datalist(tmp_path, {"training": items[:4], "validation": [items[4]], "test": [items[5]]})
    sizes = SIZES | {"image_size": [16] * 3, "patch_size": [4] * 3, "feature_size": 4, "pretrained": "none"}
    paths = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "run"), "device": "cpu", "num_workers": 0}
    more = {"max_epochs": 1, "batch_size": 2, "allow_leakage": "images", "progress": False}
    files = [f"configs/{name}.yaml" for name in ("finetune", "segment", "volumes")]
    run(ConfigWorkflow(files, logging_file=False, workflow_type="train", **sizes, **paths, **more))
    evaluation = evaluating(tmp_path, tmp_path / "out", model=str(tmp_path / "run/model.pt"), reader="NibabelReader")
    run(evaluation)
    table = pd.read_csv(tmp_path / "out/segmentation.csv")
    assert table["image"].tolist() == ["5.nii.gz"]
    assert 0 <= table["dice"][0] <= 1
    assert (tmp_path / "out/worst.png").is_file()
