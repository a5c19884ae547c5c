"""`monai.bundle run training` as a user runs it, in small."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.networks.nets import ViT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from miram.data.datalist import read_datalist, write_datalist
from miram.loading import packed
from miram.loading.packed_loader import PackedLoader

from ..causes import cause_of


@pytest.fixture(autouse=True)
def _in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository)


def test_every_property_of_a_training_workflow_is_there(prepared, workflow_of):
    workflow = workflow_of("model_tiny", small=False, dataset_dir=str(prepared), batch_size=2)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize(("overlay", "millions"), [("model_tiny", 5.5), ("model_small", 21.6), (None, 85.6)])
def test_encoder_sizes_are_those_of_the_literature(workflow_of, overlay, millions):
    """DeiT-Ti, DeiT-S and ViT-B have 5.7, 22.1 and 86.6 M, here less their heads and two of three input channels."""
    workflow = workflow_of(*[overlay] * (overlay is not None), small=False)
    workflow.parser.parse(True)
    encoder = workflow.parser.get_parsed_content("encoder")
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.015)


def test_a_short_run_of_a_long_recipe_still_lets_the_rate_fall(prepared, workflow_of, caplog):
    """400 epochs' warm-up of 40 in a run of 20: 40 steps of two batches."""
    workflow = workflow_of(dataset_dir=str(prepared), max_epochs=20, warmup_epochs=40)
    workflow.parser.parse(True)
    schedule = workflow.parser.get_parsed_content("lr_scheduler")
    assert (schedule.warmup_steps, schedule.t_total) == (4, 40)
    assert "warmup_epochs 40 is too long for 20 epochs" in caplog.text


def test_a_run_leaves_all_its_outputs(prepared, run_config, tmp_path):
    done = run_config(dataset_dir=prepared)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    pictures = {"loss.png", "reconstructions_0002.png"}
    checkpoints = {"checkpoint.pt", "checkpoint_previous.pt"}
    tables = {"history.csv", "executed_config.yaml", "tensorboard", ".lock"}
    assert names == {*checkpoints, "backbone.pt", *tables, *pictures}
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert table["epoch"].tolist() == [1, 2]
    columns = {
        f"{kind}_{scale}"
        for kind in ("train_loss", "val_loss", "val_mean", "val_interpolation")
        for scale in ("1x", "2x")
    }
    assert columns | {"rank"} <= set(table.columns)
    assert table.notna().all().all()
    # base rate x global batch / 256, reached at the end of the warm-up epoch
    assert table["learning_rate"][0] == pytest.approx(1.5e-4 * 4 / 256)
    assert "effective learning rate: 2.344e-06" in done.stdout
    assert yaml.safe_load((tmp_path / "run/executed_config.yaml").read_text())["dataset_dir"] == str(prepared)


def test_the_backbone_loads_into_a_stock_vit(prepared, workflow_of, tmp_path):
    run_here(workflow_of(dataset_dir=str(prepared)))
    backbone = torch.load(tmp_path / "run/backbone.pt", weights_only=True)
    network = ViT(**backbone["network_def"])
    network.load_state_dict(backbone["state_dict"], strict=True)
    assert network(torch.zeros(1, 1, 32, 32))[0].shape == (1, 4, 24)
    assert backbone["preprocessing"] == {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    assert backbone["provenance"]["epoch"] == 2


def test_a_run_starts_from_weights_says_so_and_goes_on_without_them(prepared, workflow_of, tmp_path, caplog):
    """One decoder fits, the other is of another depth; the file may be gone when the run goes on."""
    run_here(workflow_of(dataset_dir=str(prepared), max_epochs=1, output_dir=str(tmp_path / "first")))
    first = (tmp_path / "first/checkpoint.pt").rename(tmp_path / "first.pt")
    started = torch.load(first, weights_only=True)["network"]
    deeper = [{"scale": scale, "hidden_size": 16, "num_layers": scale, "num_heads": 2} for scale in (1, 2)]
    options = {"dataset_dir": str(prepared), "init": str(first), "decoders": deeper, "base_learning_rate": 1e-30}
    run_here(workflow_of(**options, max_epochs=1))
    facts = torch.load(tmp_path / "run/backbone.pt", weights_only=True)["provenance"]["initial_weights"]
    assert (facts["file"], facts["format"], facts["decoders"]) == (str(first), "checkpoint", [1])
    first.unlink()
    run_here(workflow_of(**options, max_epochs=2))
    content = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert content["provenance"]["initial_weights"] == facts
    kept = {key for key, value in content["network"].items() if key in started and torch.equal(value, started[key])}
    assert {key for key in started if not key.startswith("decoders.1.")} <= kept


def test_labels_are_asked_every_so_many_epochs_and_shown(prepared, workflow_of, tmp_path):
    datalist = read_datalist(prepared / "datalist.json")
    for split in ("training", "validation"):
        datalist[split] = [{**item, "kind": "ab"[n % 2]} for n, item in enumerate(datalist[split])]
    write_datalist(prepared / "datalist.json", {**datalist, "label_names": {"kind": ["a", "b"]}})
    run_here(workflow := workflow_of(dataset_dir=str(prepared), monitor_task="kind", monitor_interval=2))
    assert isinstance(workflow.parser.get_parsed_content("representation").probe.loader, PackedLoader)  # no workers
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert table[["rank", "knn_auc", "knn_ap"]].notna().to_numpy().tolist() == [[False] * 3, [True] * 3]
    assert 1 <= table["rank"][1] <= 4  # validation images
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("rank")] == [(2, pytest.approx(table["rank"][1], rel=1e-5))]


@pytest.mark.parametrize(("allowed", "images"), [(False, 10), (True, 12)])
def test_test_patients_are_learnt_from_only_when_told_and_the_files_say_so(
    allowed, images, prepared, workflow_of, tmp_path
):
    datalist = read_datalist(prepared / "datalist.json")
    splits = {"validation": datalist["validation"][:2], "test": datalist["validation"][2:]}
    write_datalist(prepared / "datalist.json", {**datalist, **splits})
    run_here(workflow_of(dataset_dir=str(prepared), allow_test_patients=allowed, max_epochs=1))
    for name in ("checkpoint", "backbone"):
        facts = torch.load(tmp_path / f"run/{name}.pt", weights_only=True)["provenance"]
        assert (facts["training_images"], facts["test_images"]) == (images, images - 10)
        assert facts["dataset"]["sha256"] == hashlib.sha256((prepared / "datalist.json").read_bytes()).hexdigest()
        config = (tmp_path / "run/executed_config.yaml").read_bytes()
        assert facts["config_sha256"] == hashlib.sha256(config).hexdigest()


def test_steps_that_are_not_finite_are_skipped_when_told_and_counted(prepared, workflow_of, tmp_path):
    """One of 10 images is NaN: its step is skipped in each epoch, and the weights stay finite."""
    workflow = workflow_of(dataset_dir=str(prepared), batch_size=2, non_finite="skip", val_interval=2)
    workflow.initialize()
    prepare = workflow.parser.get_parsed_content("prepare_batch")

    def spoil(batch, *args, **kwargs):
        image, label, *rest = prepare(batch, *args, **kwargs)
        return image, torch.where((batch["index"] == 3)[:, None, None, None].to(label.device), torch.nan, label), *rest

    trainer = workflow.parser.get_parsed_content("train#trainer")
    trainer.prepare_batch = spoil
    workflow.run()
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert table["skipped_steps"].tolist() == [1, 1]
    assert table["train_loss"].notna().all()
    assert all(value.isfinite().all() for value in weights_of({"output_dir": tmp_path / "run"}))


def weights_of(run):
    return torch.load(run["output_dir"] / "checkpoint.pt", weights_only=True)["network"].values()


@pytest.mark.slow
def test_an_interrupted_run_equals_an_uninterrupted_one(prepared, run_config, command_of, tmp_path):
    """Killed when its first checkpoint is there, and started again: the same bits, one row an epoch."""
    whole, cut = (
        {"dataset_dir": prepared, "output_dir": tmp_path / name, "max_epochs": 8} for name in ("whole", "cut")
    )
    assert run_config(**whole).returncode == 0
    process = subprocess.Popen(**command_of(**cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "cut/checkpoint.pt").exists():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    again = run_config(**cut)
    assert again.returncode == 0, again.stderr
    assert "resumed from" in again.stdout
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(cut), strict=True))
    assert pd.read_csv(tmp_path / "cut/history.csv")["epoch"].tolist() == list(range(1, 9))


@pytest.mark.slow
def test_a_finished_run_is_started_afresh_only_when_told(prepared, workflow_of, run_config, tmp_path):
    run_here(workflow_of(dataset_dir=str(prepared)))
    again = run_config(dataset_dir=prepared)
    assert "resumed from" in again.stdout
    assert "after epoch 2 of 2" in again.stdout
    afresh = run_config(dataset_dir=prepared, resume="false", max_epochs=1)
    assert "starting afresh" in afresh.stdout
    assert pd.read_csv(tmp_path / "run/history.csv")["epoch"].tolist() == [1]


def run_here(workflow):
    """Run a workflow in this process."""
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.mark.parametrize("overlay", ["mae", "paper"])
def test_variants_run(overlay, prepared, workflow_of, tmp_path):
    small = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    nystromformer = {"scale": 2, "attention": "nystromformer", "attention_kwargs": {"num_landmarks": 8}}
    decoders = {"mae": [{"scale": 1, **small}], "paper": [{"scale": 1, **small}, {**nystromformer, **small}]}[overlay]
    run_here(workflow_of(overlay, dataset_dir=str(prepared), decoders=decoders, max_epochs=1, accumulation_steps=8))
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert ("val_loss_2x" in table) == (overlay == "paper")
    assert table["val_loss_1x"].notna().all()


@pytest.mark.parametrize(
    ("overlay", "scales"),
    [("control_enlarged", ["1x", "2x"]), ("control_quarters", ["1x"]), ("control_two_at_1x", ["1x", "1x_2"])],
)
def test_controls_run(overlay, scales, prepared, workflow_of, tmp_path):
    run_here(workflow_of(overlay, dataset_dir=str(prepared), max_epochs=1))
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert [name for name in table if name.startswith("val_loss_")] == [f"val_loss_{scale}" for scale in scales]
    assert table.notna().all(axis=None)


LEVERS = {"statistics_weight": 0.5, "gradient_weight": 0.5, "whitened_embedding": 0.25}
IN_2D = {**LEVERS, "texture_weight": 2.0}


@pytest.mark.parametrize("overlay", [None, "control_two_at_1x", "control_quarters"])
def test_more_than_pixels_is_predicted_and_recorded(overlay, prepared, workflow_of, tmp_path):
    options = {"dataset_dir": str(prepared), **IN_2D}
    for epochs in (1, 2):  # the second run resumes
        run_here(workflow_of(*[overlay] * (overlay is not None), max_epochs=epochs, **options))
    table = pd.read_csv(tmp_path / "run/history.csv")
    scales = {None: ["1x", "2x"], "control_two_at_1x": ["1x", "1x_2"], "control_quarters": ["1x"]}[overlay]
    kinds = ("loss", "loss_statistics", "loss_gradients", "loss_texture", "mean", "interpolation")
    columns = {f"val_{kind}_{scale}" for kind in kinds for scale in scales}
    assert columns | {"val_loss"} == {name for name in table if name.startswith("val_")}
    assert table.notna().all(axis=None)
    assert (tmp_path / "run/reconstructions_0002.png").exists()


def test_the_recipe_for_masses_runs_with_every_lever(prepared, workflow_of, tmp_path):
    datalist = read_datalist(prepared / "datalist.json")
    for n, item in enumerate(datalist["training"]):
        item["crop"] = "lesion" if n < 4 else "tissue"
    write_datalist(prepared / "datalist.json", datalist)
    options = {"patch_size": [8, 8], "gradient_weight": 0.5, "crop_area": [0.5, 1.0], "monitor_task": None}
    options |= {"mask_views": 2, "batch_size": "auto", "images_per_step": 4}
    workflow = workflow_of("cbis_masses", dataset_dir=str(prepared), **options)
    run_here(workflow)
    assert isinstance(workflow.parser.get_parsed_content("train#dataloader"), PackedLoader)
    assert workflow.parser.get_parsed_content("steps_per_epoch") == 2  # 8 of 10 crops in batches of 4
    batch = next(iter(workflow.parser.get_parsed_content("train#dataloader")))
    image, label, (keep,), _ = workflow.parser.get_parsed_content("prepare_batch")(batch, torch.device("cpu"))
    assert len(image) == len(label) == len(keep) == 8  # each image twice
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert table[["val_loss_statistics_2x", "val_loss_gradients_2x", "val_loss_texture_2x"]].notna().all(axis=None)


def test_two_views_are_compared_instead_of_reconstructed(prepared, workflow_of, tmp_path):
    own = {"decoders": [], "num_pictures": 0, "projection_sizes": [16, 8], "batch_size": 2, "max_epochs": 1}
    run_here(workflow_of("barlow_twins", dataset_dir=str(prepared), **own))
    table = pd.read_csv(tmp_path / "run/history.csv")
    assert table[["train_loss_barlow_twins", "val_loss_barlow_twins"]].notna().all(axis=None)
    assert not [name for name in table if name.startswith("val_mean")]
    backbone = torch.load(tmp_path / "run/backbone.pt", weights_only=True)
    ViT(**backbone["network_def"]).load_state_dict(backbone["state_dict"], strict=True)


def test_crops_come_from_the_packed_copy_or_from_the_files(prepared, workflow_of, tmp_path, monkeypatch):
    baselines, asked = [], []
    read_sizes = packed._hash
    monkeypatch.setattr(packed, "_hash", lambda *arguments: asked.append(1) or read_sizes(*arguments))
    for overlays in (("transforms",), ()):
        assert not (prepared / "packed").exists()
        run = tmp_path / f"run_{len(overlays)}"
        run_here(workflow := workflow_of(*overlays, dataset_dir=str(prepared), output_dir=str(run), max_epochs=1))
        loaders = [workflow.parser.get_parsed_content(f"{section}#dataloader") for section in ("train", "validate")]
        assert [isinstance(loader, PackedLoader) for loader in loaders] == [not overlays] * 2
        assert loaders[0].sampler.epoch == 1  # the first; order and windows follow from it
        baselines.append(pd.read_csv(run / "history.csv")[["val_mean_1x", "val_mean_2x"]].to_numpy())
    assert len(asked) == 2  # when packing, and when opening: on a network disk this takes minutes
    # the baselines see the validation batches alone; pixels are scaled in another order of operations
    np.testing.assert_allclose(baselines[1], baselines[0], rtol=1e-5)


def test_a_transform_of_ones_own_reads_the_files(prepared, workflow_of):
    workflow = workflow_of(dataset_dir=str(prepared), max_epochs=1, random_transforms=[])
    workflow.initialize()
    assert not isinstance(workflow.parser.get_parsed_content("train#dataloader"), PackedLoader)
    assert isinstance(workflow.parser.get_parsed_content("validate#dataloader"), PackedLoader)


@pytest.mark.parametrize("more", [{}, LEVERS])
def test_volumes_end_to_end(more, prepared_volumes, workflow_of, tmp_path):
    decoders = [{"scale": scale, "hidden_size": 24, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]
    volumes = {"dataset_dir": str(prepared_volumes), "image_size": [16, 16, 16], "decoders": decoders}
    run_here(workflow_of("volumes", **volumes, **more))
    backbone = torch.load(tmp_path / "run/backbone.pt", weights_only=True)
    network = ViT(**backbone["network_def"])
    network.load_state_dict(backbone["state_dict"], strict=True)
    assert network(torch.zeros(1, 1, 16, 16, 16))[0].shape == (1, 8, 24)


VIEWS = {"decoders": [], "num_pictures": 0, "projection_sizes": [16, 8], "batch_size": 2}


@pytest.mark.parametrize(
    ("overlays", "options"),
    [((), {}), (("transforms",), {}), (("barlow_twins",), VIEWS), (("transforms", "barlow_twins"), VIEWS)],
)
def test_sides_may_differ(overlays, options, prepared, workflow_of, tmp_path):
    """Quarter turns are left out, in the loader and on the device; flips are not."""
    size = {"image_size": [32, 16], "patch_size": [8, 8]}
    run_here(workflow_of(*overlays, dataset_dir=str(prepared), max_epochs=1, warmup_epochs=0, **size, **options))
    assert torch.load(tmp_path / "run/backbone.pt", weights_only=True)["network_def"]["img_size"] == [32, 16]


@pytest.mark.parametrize("size", [[16, 8, 16], [16, 16, 8]])
def test_sides_of_volumes_may_differ(size, prepared_volumes, workflow_of, tmp_path):
    decoders = [{"scale": scale, "hidden_size": 24, "num_layers": 1, "num_heads": 2} for scale in (1, 2)]
    options = {"dataset_dir": str(prepared_volumes), "image_size": size, "decoders": decoders}
    workflow = workflow_of("volumes", **options, max_epochs=1, warmup_epochs=0)
    run_here(workflow)
    turns = [type(part).__name__ for part in workflow.parser.get_parsed_content("random_transforms")]
    assert ("RandRotate90d" in turns) == (size[0] == size[1])  # they turn in the plane of the first two axes
    assert torch.load(tmp_path / "run/backbone.pt", weights_only=True)["network_def"]["img_size"] == size


def test_images_that_look_the_same_in_two_splits_are_refused_or_recorded(prepared, workflow_of, tmp_path):
    datalist = read_datalist(prepared / "datalist.json")
    for split in ("training", "validation"):
        for item in datalist[split]:
            item["hash"] = hashlib.sha256(item["image"].encode()).hexdigest()  # far from all others
        datalist[split][0]["hash"] = "0" * 64
    write_datalist(prepared / "datalist.json", datalist)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - MONAI wraps the error
        run_here(workflow_of(dataset_dir=str(prepared), max_epochs=1))
    assert "look the same" in cause_of(raised.value)
    assert not (tmp_path / "run/checkpoint.pt").exists()
    run_here(workflow_of(dataset_dir=str(prepared), max_epochs=1, allow_leakage="images"))
    backbone = torch.load(tmp_path / "run/backbone.pt", weights_only=True)
    assert backbone["provenance"]["leakage"] == {"allowed": ["images"], "similar_images": 1}


def test_a_folder_without_validation_images_trains(prepared, workflow_of, tmp_path):
    datalist = read_datalist(prepared / "datalist.json")
    write_datalist(prepared / "datalist.json", {**datalist, "validation": []})
    run_here(workflow_of(dataset_dir=str(prepared), max_epochs=1))
    assert not [name for name in pd.read_csv(tmp_path / "run/history.csv") if name.startswith("val_")]
    assert (tmp_path / "run/reconstructions_0001.png").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": [30, 32]}, "not a multiple of patch_size"),
        ({"mask_ratio": 1.5}, "mask_ratio must be greater than 0"),
        ({"decoders": [{"scale": 1.3, "hidden_size": 16, "num_layers": 1, "num_heads": 2}]}, "not give a whole grid"),
        ({"batch_size": 64}, "10 images, fewer than one batch of 64"),
        ({"batch_size": 0}, "batch_size is 0; give at least 1"),
        ({"max_epochs": 0}, "max_epochs is 0; give at least 1"),
        ({"resume": "maybe"}, "--resume takes True or False"),
        ({"precision": "half"}, "precision must be one of"),
        ({"dataset_dir": "absent"}, "prepare_folder.py"),
    ],
)
def test_bad_values_are_refused_before_a_checkpoint_is_written(prepared, workflow_of, tmp_path, overrides, message):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - MONAI wraps the error; its first cause is what matters
        run_here(workflow_of(**{"dataset_dir": str(prepared), **overrides}))
    assert message in cause_of(raised.value, ValueError)
    assert not (tmp_path / "run/checkpoint.pt").exists()
    assert not (tmp_path / "run/executed_config.yaml").exists()


def test_a_checkpoint_of_another_architecture_stops_the_run_with_one_line(prepared, workflow_of, run_config, tmp_path):
    run_here(workflow_of(dataset_dir=str(prepared), max_epochs=1))
    config = (tmp_path / "run/executed_config.yaml").read_bytes()
    done = run_config(dataset_dir=prepared, hidden_size=32, max_epochs=1)
    assert done.returncode != 0
    assert "another architecture" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run/executed_config.yaml").read_bytes() == config
