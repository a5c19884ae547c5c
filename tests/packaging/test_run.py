"""The packaged workflows, run from a directory that has nothing to do with them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from miram.data.datalist import load_split
from miram.inference.classifying import load_trained
from miram.packaging.weights import load_packaged, read_state
from miram.prepare.prepared import read_png16

from ..classifier_case import as_input, make_classifier
from .conftest import run_without_our_package

SMALL = {"max_epochs": 2, "warmup_epochs": 0, "batch_size": 4, "progress": False}


@pytest.fixture
def bundle(packaged, tmp_path):
    """A bundle that training may change."""
    return shutil.copytree(packaged, tmp_path / "elsewhere" / packaged.name)


def run(workflow):
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.mark.slow
def test_a_bundle_classifies_where_our_package_is_not_installed(packaged, prepared, tmp_path):
    shutil.copytree(packaged, tmp_path / "moved")  # wherever it lies
    options = {"input": prepared / "images", "output_dir": tmp_path / "out", "num_pictures": 1, "test_time_flips": True}
    done = run_without_our_package(
        *("-m", "monai.bundle", "run", "evaluating", "--config_file", "moved/configs/inference.json"),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "out/predictions.csv").set_index("image")
    network = make_classifier(steps=8)
    for item in load_split(prepared, "test")[:3]:
        crop = as_input([read_png16(item["image"])])
        versions = [one.rot90(quarters, (2, 3)) for one in (crop, crop.flip(3)) for quarters in range(4)]
        logits = [network(version) for version in versions]
        expected = torch.stack(logits).mean().sigmoid().item()
        name = item["image"].rsplit("/", 1)[1]
        assert table.loc[name, "prob_MALIGNANT"] == pytest.approx(expected, abs=1e-5)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    written = json.loads((tmp_path / "out/predictions.json").read_text())
    assert written["intended_use"].startswith("Research use only")


def test_a_bundle_evaluates_like_the_run_it_comes_from(bundle, prepared, workflow, tmp_path):
    run(workflow(bundle, "evaluate", dataset_dir=str(prepared), workflow_type="infer", n_resamples=20, num_cases=1))
    table = pd.read_csv(bundle / "runs/evaluate_pathology/predictions.csv")
    assert len(table) == 16
    calibration = json.loads((bundle / "runs/evaluate_pathology/calibration.json").read_text())
    item = load_split(prepared, "test")[1]["image"]
    # inference then takes the calibration that the evaluation has left in the bundle
    run(workflow(bundle, "inference", input=item, workflow_type="infer", num_pictures=0, output_dir=str(tmp_path)))
    (row,) = pd.read_csv(tmp_path / "predictions.csv").to_dict("records")
    logit = make_classifier(steps=8)(as_input([read_png16(item)])).item()
    expected = torch.tensor(logit * calibration["scale"][0] + calibration["bias"][0]).sigmoid().item()
    assert row["prob_MALIGNANT"] == pytest.approx(expected, abs=1e-4)


def test_training_goes_on_from_the_bundles_weights_and_replaces_them(bundle, prepared, workflow):
    before = read_state(bundle / "models/model.pt")
    made = workflow(bundle, "train", dataset_dir=str(prepared), base_learning_rate=1e-2, **SMALL)
    run(made)
    after = read_state(bundle / "models/model.pt")
    moved = {key: (after[key] - before[key]).abs().max().item() for key in before}
    assert after.keys() == before.keys()
    assert moved["features.blocks.0.attn.qkv.weight"] > 0
    # 8 of 15 training images are malignant: their weight is taken back
    assert moved.pop("fc.bias") == pytest.approx(np.log(8 / 7), abs=0.01)
    assert max(moved.values()) < 0.1  # two epochs from where it stood, not from random weights
    history = pd.read_csv(bundle / "runs/finetune_pathology/history.csv")
    assert history["epoch"].to_list() == [1, 2]
    assert (bundle / "runs/finetune_pathology/executed_config.yaml").is_file()
    facts = json.loads((bundle / "configs/inference.json").read_text())["facts"]
    found = load_packaged(bundle / "models/model.pt", facts)
    stock = made.network_def.eval()
    image = torch.randn(2, 1, 16, 16)
    stock.load_state_dict(after)
    torch.testing.assert_close(found.network(image), stock(image), atol=2e-6, rtol=1e-5)


def test_training_from_random_weights_elsewhere_leaves_the_bundles(bundle, prepared, workflow, tmp_path, checkpoint):
    packaged_bytes = (bundle / "models/model.pt").read_bytes()
    paths = {"ckpt_dir": str(tmp_path / "own"), "output_dir": str(tmp_path / "run")}
    run(workflow(bundle, "train", dataset_dir=str(prepared), pretrained="none", **paths, **{**SMALL, "max_epochs": 1}))
    assert (bundle / "models/model.pt").read_bytes() == packaged_bytes
    assert not (bundle / "runs").exists()
    trained = read_state(tmp_path / "own/model.pt")["features.cls_token"]
    assert (trained - load_trained(checkpoint).network.encoder.cls_token).abs().max() > 0.01


@pytest.mark.slow
def test_two_processes_train_with_the_overlay(bundle, prepared, tmp_path):
    files = [str(bundle / f"configs/{name}.json") for name in ("train", "multi_gpu_train")]
    before = (bundle / "models/model.pt").read_bytes()
    options = {"dataset_dir": prepared, "num_workers": 0, **SMALL, "batch_size": 2, "max_epochs": 1}
    done = run_without_our_package(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "monai.bundle", "run", "training", "--config_file", files),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "processes: 2" in done.stdout
    assert "1 epochs of 3 iterations" in done.stdout  # DDP would fail at the second, were a gradient missing
    assert (bundle / "models/model.pt").read_bytes() != before
