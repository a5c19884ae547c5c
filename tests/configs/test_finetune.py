"""Fine-tuning and probing as a user runs them, in small."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys

import monai
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from miram.data.datalist import write_datalist
from miram.networks.classifier import stock_classifier
from miram.networks.vit_encoder import ViTEncoder
from miram.prepare.prepared import write_png16, write_volume
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.classifier import load_classifier
from studies.comparison.cnn import load_trained_cnn

from ..causes import cause_of

SIZES = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
SMALL = {"max_epochs": 3, "warmup_epochs": 1, "batch_size": 6, "num_workers": 0, "device": "cpu"}
RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


@pytest.fixture(autouse=True)
def _as_before(repository, monkeypatch):
    """A config changes a process that is its own: put back what it changed."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    monai.data.set_track_meta(True)


@pytest.fixture
def labelled(tmp_path):
    """Two crops each of 12 patients: malignant ones are bright, with a margin; the last four are for validation."""
    random = np.random.default_rng(0)
    items = []
    for n in range(24):
        malignant = n // 2 % 2 == 1
        pixels = random.integers(0, 20000, (80, 80)) + 40000 * malignant
        item = {"image": f"images/{n}.png", "patient": f"p{n // 2}", "abnormality": "mass", "lesion": f"l{n // 2}"}
        margins = ["SPICULATED", "OBSCURED"] if malignant else ["OBSCURED" if n % 4 else "CIRCUMSCRIBED"]
        item |= {"pathology": "MALIGNANT" if malignant else "BENIGN", "mass_margins": margins, "grade": str(n // 2 % 3)}
        items.append(item)
        write_png16(tmp_path / "data" / item["image"], pixels.astype(np.uint16))
    items[0]["pathology"] = None
    names = {
        "pathology": ["BENIGN", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT"],
        "mass_margins": ["CIRCUMSCRIBED", "OBSCURED", "SPICULATED"],
        "grade": ["0", "1", "2"],
    }
    splits = {"training": items[:16], "validation": items[16:], "test": []}
    write_datalist(tmp_path / "data/datalist.json", {"name": "small", "label_names": names, **splits})
    return tmp_path / "data"


@pytest.fixture
def backbone(tmp_path):
    encoder = ViTEncoder(1, 32, 8, **SIZES)
    save_weights_file(tmp_path / "backbone.pt", backbone_from_encoder(encoder, RANGE, {"scales": [1, 2]}))
    return tmp_path / "backbone.pt"


@pytest.fixture
def workflow_of(labelled, backbone, tmp_path):
    def make(*overlays, **overrides):
        values = {"dataset_dir": str(labelled), "pretrained": str(backbone), "output_dir": str(tmp_path / "run")}
        files = [f"configs/{name}.yaml" for name in ("finetune", *overlays)]
        return ConfigWorkflow(files, logging_file=False, workflow_type="train", **{**SMALL, **values, **overrides})

    return make


@pytest.fixture
def run(workflow_of, tmp_path):
    """Run a config in this process, to its end; the table of its epochs."""

    def run(*overlays, **overrides):
        workflow = workflow_of(*overlays, **overrides)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return pd.read_csv(tmp_path / "run/history.csv")

    return run


def weights_of(path):
    return torch.load(path, weights_only=True)["network"]


def test_a_short_run_of_a_long_recipe_still_lets_the_rate_fall(workflow_of, caplog):
    workflow = workflow_of(max_epochs=10, warmup_epochs=8)
    workflow.parser.parse(True)
    schedule = workflow.parser.get_parsed_content("lr_scheduler")
    assert (schedule.warmup_steps, schedule.t_total) == (2, 20)  # of two batches an epoch
    assert "warmup_epochs 8 is too long for 10 epochs" in caplog.text


def test_sides_may_differ(workflow_of, tmp_path):
    """Of the encoder and of the window: positions are made for the new grid, quarter turns left out."""
    workflow = workflow_of(image_size=[32, 16], field_of_view=[64, 32], max_epochs=1, warmup_epochs=0)
    for part in (workflow.initialize, workflow.run, workflow.finalize):
        part()
    content = torch.load(tmp_path / "run/model.pt", weights_only=True)
    assert content["preprocessing"]["image_size"] == [32, 16]


def test_every_property_of_a_training_workflow_is_there(workflow_of):
    workflow = workflow_of()
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("overlay", ["attentive_probe", "multi_gpu"])
def test_overlays_change_only_what_the_base_has(overlay, repository):
    base, changes = (
        yaml.safe_load((repository / f"configs/{name}.yaml").read_text()) for name in ("finetune", overlay)
    )
    assert changes.keys() <= base.keys()


def test_a_run_learns_and_leaves_all_its_outputs(run, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        table = run(max_epochs=12, base_learning_rate=0.2, key_metric="val_ap")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    checkpoints = {"checkpoint.pt", "checkpoint_previous.pt"}
    tables = {"history.csv", "loss.png", "executed_config.yaml", "tensorboard", ".lock"}
    assert names == {*checkpoints, "model.pt", *tables}
    assert table["epoch"].tolist() == list(range(1, 13))
    assert table["val_auc"].max() == 1.0  # bright or dark
    assert table["train_loss"].iloc[-1] < table["train_loss"].iloc[0]
    network, rest = load_classifier(tmp_path / "run/model.pt")
    assert rest["task"] == {"name": "pathology", "type": "binary", "classes": ["BENIGN", "MALIGNANT"]}
    assert rest["preprocessing"] == {**RANGE, "field_of_view": [64, 64], "image_size": [32, 32], "prepared": {}}
    best = table.loc[table["val_ap"].idxmax()]
    assert rest["provenance"]["epoch"] == best["epoch"]
    assert rest["provenance"]["validation"]["val_ap"] == pytest.approx(best["val_ap"], rel=1e-5)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 1)
    for said in (
        "15 images of 8 patients (BENIGN 7, MALIGNANT 8); left out: 1 of unknown label",
        "encoder as pretrained: in_channels 1, img_size [32, 32], patch_size [8, 8], hidden_size 24",
        "of 30 keys loaded",
        "global batch size: 6",
        "effective learning rate: 0.004688",
    ):
        assert said in caplog.text, said


@pytest.mark.parametrize(
    ("overlays", "overrides", "classes"),
    [
        ([], {"task": "mass_margins", "mixup_alpha": 0.8, "label_smoothing": 0.1, "ema_decay": 0.5}, 3),
        ([], {"task": "grade", "pool": "mean", "balance": "sampling", "pretrained": "none", "image_size": [32, 32]}, 3),
        (["attentive_probe"], {"balance": "none"}, 1),
    ],
)
def test_variants_run(overlays, overrides, classes, run, tmp_path, backbone):
    sizes = SIZES if overrides.get("pretrained") == "none" else {}
    patch = {"patch_size": [8, 8]} if sizes else {}
    table = run(*overlays, **overrides, **sizes, **patch, max_epochs=2)
    assert table[["val_auc", "val_ap", "val_loss"]].notna().all().all()
    network, _ = load_classifier(tmp_path / "run/model.pt")
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, classes)
    if overlays:
        before = torch.load(backbone, weights_only=True)["state_dict"]
        after = network.encoder.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_cnn_is_trained_and_loaded_by_its_own_function(run, tmp_path):
    table = run("cnn", pretrained="none", **SIZES, patch_size=[8, 8], image_size=[32, 32], max_epochs=2)
    assert table[["val_auc", "val_ap", "val_loss"]].notna().all().all()
    trained = load_trained_cnn(tmp_path / "run/model.pt", "pathology")
    assert trained.network(torch.zeros(1, 1, 32, 32)).shape == (1, 1)
    assert trained.preprocessing["field_of_view"] == [64, 64]


@pytest.mark.parametrize(
    ("overrides", "classes"),
    [
        ({"label_fraction": 0.5}, 1),
        ({"task": "mass_margins", "balance": "none"}, 3),
        ({"task": "grade", "pool": "statistics", "probe_metric": "val_auc"}, 3),
    ],
)
def test_a_linear_probe_is_one_pass(overrides, classes, workflow_of, tmp_path, backbone, caplog):
    workflow = workflow_of("linear_probe", **overrides)
    workflow.initialize()
    with caplog.at_level(logging.INFO):
        workflow.run()
    workflow.finalize()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"model.pt", "history.csv", "executed_config.yaml", ".lock"}
    table = pd.read_csv(tmp_path / "run/history.csv")
    (chosen,) = table[table["chosen"] == 1].to_dict("records")
    metric = overrides.get("probe_metric", "val_loss")
    assert chosen[metric] == (table[metric].max() if metric == "val_auc" else table[metric].min())
    assert f"chosen by {metric}: C {chosen['C']:.3g}" in caplog.text
    network, rest = load_classifier(tmp_path / "run/model.pt")
    assert rest["provenance"]["C"] == chosen["C"]
    assert rest["provenance"]["validation"]["val_auc"] == pytest.approx(chosen["val_auc"], rel=1e-4)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, classes)
    before = torch.load(backbone, weights_only=True)["state_dict"]
    after = network.encoder.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    if overrides.get("pool", "token") == "token":
        assert stock_classifier(network)(torch.zeros(1, 1, 32, 32))[0].shape == (1, classes)


def test_training_can_start_from_a_linear_probe_and_a_resumed_one_does_not_fit_it_again(workflow_of, run, tmp_path):
    options = {"balance": "none", "pool": "statistics", "drop_path_rate": 0.0}
    probe = workflow_of("linear_probe", **options, output_dir=str(tmp_path / "probe"))
    probe.initialize()
    probe.run()
    expected = load_classifier(tmp_path / "probe/model.pt")[0].classification_head.weight
    options |= {"probe_first": "true", "base_learning_rate": 1e-12, "max_epochs": 1}  # trains, but moves nothing
    run(**options)
    trained = weights_of(tmp_path / "run/checkpoint.pt")["classification_head.weight"]
    torch.testing.assert_close(trained, expected, atol=1e-6, rtol=0)
    run(**options | {"max_epochs": 2, "strengths": [1e-9]})
    kept = weights_of(tmp_path / "run/checkpoint.pt")["classification_head.weight"]
    torch.testing.assert_close(kept, expected, atol=1e-6, rtol=0)


def test_the_model_file_is_corrected_for_the_balance_of_the_classes(run, tmp_path):
    run(max_epochs=1, base_learning_rate=0.01)
    trained = weights_of(tmp_path / "run/checkpoint.pt")["classification_head.bias"]
    network, _ = load_classifier(tmp_path / "run/model.pt")
    # 8 of the 15 training images are malignant: their weight is 7 / 8 of that of the others
    torch.testing.assert_close(network.classification_head.bias.detach(), trained + np.log(8 / 7))


def test_an_interrupted_run_equals_an_uninterrupted_one(run, workflow_of, tmp_path):
    """With everything that has a state: average, mixup, stochastic depth, the best epoch."""
    options = {"ema_decay": 0.5, "mixup_alpha": 0.5, "drop_path_rate": 0.3, "max_epochs": 4}
    run(**options)
    whole = {name: torch.load(tmp_path / f"run/{name}.pt", weights_only=True) for name in ("checkpoint", "model")}
    cut = {**options, "output_dir": str(tmp_path / "cut")}
    workflow = workflow_of(**cut)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_STARTED(once=3), stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = workflow_of(**cut)
    again.initialize()
    again.run()
    resumed = {name: torch.load(tmp_path / f"cut/{name}.pt", weights_only=True) for name in ("checkpoint", "model")}
    for part, key in (("checkpoint", "network"), ("checkpoint", "average"), ("model", "state_dict")):
        assert all(torch.equal(value, resumed[part][key][name]) for name, value in whole[part][key].items()), part
    assert resumed["checkpoint"]["best_model"] == whole["checkpoint"]["best_model"]


def stop(engine):
    raise KeyboardInterrupt


def test_a_loss_that_is_no_number_names_the_images_and_keeps_the_last_checkpoint(run, tmp_path):
    run(max_epochs=1)
    kept = weights_of(tmp_path / "run/checkpoint.pt")
    with pytest.raises(RuntimeError) as caught:
        run(max_epochs=2, preprocessing={**RANGE, "b_max": float("nan")})
    assert re.search(r"training loss of iteration 3 is nan.*images: .*images/\d+\.png", cause_of(caught.value))
    assert all(torch.equal(kept[key], value) for key, value in weights_of(tmp_path / "run/checkpoint.pt").items())
    assert load_classifier(tmp_path / "run/model.pt")[1]["provenance"]["epoch"] == 1


def one_class(datalist):
    for item in datalist["validation"]:
        item["pathology"] = "MALIGNANT"


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        (None, {"task": "stage"}, "has no task 'stage'; it has pathology, mass_margins, grade, pathology3"),
        (one_class, {}, "validation split has only one class of the task 'pathology': BENIGN 0, MALIGNANT 8"),
        (None, {"label_fraction": 0.1}, "label_fraction 0.1 keeps 1 of 8 patients and none with"),
        (None, {"pretrained": "absent.pt"}, "there is no pretrained file absent.pt"),
        (None, {"mode": "probe"}, "mode 'probe' is not one of"),
        (None, {"balance": "weight"}, "balance 'weight' is not one of"),
        (None, {"early_stopping_patience": 0}, "early_stopping_patience must be at least 1"),
    ],
)
def test_bad_values_end_with_a_message_and_no_checkpoint(change, overrides, message, labelled, run, tmp_path):
    if change:
        datalist = json.loads((labelled / "datalist.json").read_text())
        change(datalist)
        write_datalist(labelled / "datalist.json", datalist)
    with pytest.raises(RuntimeError) as caught:  # MONAI wraps it; on the command line the message stands alone
        run(**overrides)
    assert message in cause_of(caught.value)
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_few_images_are_seen_for_more_epochs(run):
    table = run(max_epochs=2, min_iterations=10)
    assert list(table["iteration"]) == [2, 4, 6, 8, 10]  # an epoch is two batches of 6 of the 15 images


def test_early_stopping_ends_a_run(run):
    table = run(max_epochs=30, base_learning_rate=0.0, early_stopping_patience=3)
    assert table["epoch"].tolist() == [1, 2, 3, 4]  # nothing is learned: the first epoch stays the best


def command(labelled, output_dir, *overlays, **overrides):
    """`monai.bundle run training`, as a user types it."""
    files = [f"configs/{name}.yaml" for name in ("finetune", *overlays)]
    arguments = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    small = {name: value for name, value in SMALL.items() if name != "device"}
    for name, value in {**small, "dataset_dir": labelled, "output_dir": output_dir, **overrides}.items():
        arguments += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(arguments, env=environment, text=True, capture_output=True, timeout=120)


def test_on_the_command_line_an_error_is_one_line(labelled, backbone, tmp_path):
    done = command(labelled, tmp_path / "run", pretrained=backbone, task="stage")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("error: the data list 'small' has no task 'stage'; it has pathology")


def test_volumes_are_classified_by_the_same_code(run, tmp_path):
    items = [{"image": f"images/{n}.nii.gz", "patient": f"p{n}", "kind": "ab"[n % 2]} for n in range(8)]
    for n, item in enumerate(items):
        noise = np.random.default_rng(n).integers(0, 10000, (34, 34, 34))  # images that differ: no copies in two splits
        voxels = (20000 + 30000 * (n % 2) + noise).astype(np.uint16)
        write_volume(tmp_path / "volumes" / item["image"], voxels, (1.0, 1.0, 1.0))
    splits = {"training": items[:4], "validation": items[4:], "test": []}
    write_datalist(tmp_path / "volumes/datalist.json", {"label_names": {"kind": ["a", "b"]}, **splits})
    sizes = {**SIZES, "image_size": [16, 16, 16], "pretrained": "none"}
    run("volumes", dataset_dir=str(tmp_path / "volumes"), task="kind", max_epochs=1, batch_size=4, **sizes)
    network, _ = load_classifier(tmp_path / "run/model.pt")
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1)
