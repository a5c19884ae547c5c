"""The study, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.utils import set_determinism
from PIL import Image

from miram.data.datalist import write_datalist
from miram.errors import InputError
from studies.benchmark.decoder_report import study_table, write_study
from studies.benchmark.decoder_runs import StudyRun
from studies.benchmark.decoder_study import StudySettings, read_config, run_study
from studies.benchmark.variants import make_variants

ROOT = Path(__file__).parents[3]


@pytest.fixture
def crops(tmp_path) -> Path:
    """Eight crops of 64 pixels of four patients, with a label."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    items = []
    for number in range(8):
        pixels = generator.integers(0, 65535, (64, 64)).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        kind = "ab"[number % 2]
        items.append({"image": f"images/{number}.png", "mask": None, "patient": str(number // 2), "kind": kind})
    lists = {"training": items[:6], "validation": items[6:], "test": []}
    names = {
        "name": "x",
        "modality": "MG",
        "source": "generated",
        "licence": "none",
        "label_names": {"kind": ["a", "b"]},
    }
    write_datalist(folder / "datalist.json", {**names, **lists})
    return folder


def settings_of(crops, tmp_path, **changes) -> StudySettings:
    small = {
        "image_size": [32, 32], "patch_size": [8, 8], "hidden_size": 48, "mlp_dim": 48, "num_layers": 1, "num_heads": 2,
        "batch_size": 3, "warmup_epochs": 1, "device": torch.device("cpu"),
    }  # fmt: skip
    values = {
        "config_files": [ROOT / "configs/pretrain.yaml"], "dataset_dir": crops, "output_dir": tmp_path / "study",
        "variants": ["cross_attention", "control_enlarged", "control_quarters", "control_two_at_1x"], "seeds": [0],
        "epochs": 2, "task": "kind", "overrides": small,
    }  # fmt: skip
    return StudySettings(**{**values, **changes})


def test_a_study_judges_every_form_after_the_same_epochs_and_time(crops, tmp_path):
    records = run_study(settings_of(crops, tmp_path))
    names = ["mae", "cross_attention", "control_enlarged", "control_quarters", "control_two_at_1x"]
    assert [record["variant"] for record in records] == names
    by_name = {record["variant"]: record for record in records}
    mae = by_name["mae"]["same_epochs"]
    assert mae["steps"] == 4  # two epochs of two batches
    for record in records:
        assert record["same_epochs"]["steps"] == 4
        assert record["same_time"]["seconds"] >= 0.999 * mae["seconds"] or record["same_time"]["steps"] >= 4
        assert 1 <= record["same_epochs"]["rank"] <= 2
    scales = {name: {key for key in record["same_epochs"] if "error" in key} for name, record in by_name.items()}
    assert scales["cross_attention"] == {"error_1x", "error_2x"}
    assert scales["mae"] == scales["control_enlarged"] == scales["control_two_at_1x"] == {"error_1x"}
    assert scales["control_quarters"] == set()  # its predictions are in other units

    paths = write_study(records, tmp_path / "study")
    table = pd.read_csv(paths[1])
    assert table[table["variant"] == "mae"]["flops"].tolist() == [1, 1]
    assert "| cross_attention | " in paths[0].read_text()
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_run_trains_as_a_plain_loop_does(crops, tmp_path):
    """Order from epoch 0, a rate that warms up over two steps, no clipping."""
    settings = settings_of(crops, tmp_path, variants=[])

    def prepared() -> StudyRun:
        set_determinism(seed=0)
        config = read_config(settings, 0)
        return StudyRun(config, make_variants(config.get_parsed_content("encoder"))["mae"], None)

    run, plain = prepared(), prepared()
    run.train(2, None)
    rate, step = plain.optimizer.param_groups[0]["lr"], 0
    for epoch in range(2):
        plain.loader.sampler.set_epoch(epoch)
        for batch in plain.loader:
            step += 1
            for group in plain.optimizer.param_groups:
                group["lr"] = rate * min(1, step / 2)
            image, label, (keep,), _ = plain.prepare_batch(batch, plain.device)
            plain.optimizer.zero_grad()
            plain.loss_function(plain.network.train()(image, keep), label)["loss"].backward()
            plain.optimizer.step()
    expected = plain.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in run.network.state_dict().items())


def test_a_run_whose_loss_is_not_finite_stops(crops, tmp_path):
    settings = settings_of(crops, tmp_path, variants=[])
    settings.overrides["base_learning_rate"] = 1e30
    with pytest.raises(InputError, match=r"loss of iteration 2 is nan. Check .*images/\d\.png"):
        run_study(settings)


def test_a_finished_run_is_not_run_again(crops, tmp_path):
    settings = settings_of(crops, tmp_path, variants=[], task=None)
    run_study(settings)
    path = tmp_path / "study/mae_seed_0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": "kept"}))
    assert [record["note"] for record in run_study(settings)] == ["kept"]


def test_costs_are_relative_to_mae_of_the_same_seed():
    def record(variant, seed, flops, seconds):
        judged = {"seconds": seconds, "error_1x": 0.9}
        return {"variant": variant, "seed": seed, "flops": flops, "saved_bytes": 10, "same_epochs": judged}

    records = [
        record("mae", 0, 10, 2.0),
        record("full", 0, 5, 1.0),
        record("mae", 1, 10, 4.0),
        record("full", 1, 5, 3.0),
    ]
    table = study_table(records, "same_epochs")
    assert table["flops"].tolist() == [1, 0.5, 1, 0.5]
    assert table["seconds"].tolist() == [1, 0.5, 1, 0.75]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["vgg"]}, "no variant 'vgg'"),
        ({"config_files": [Path("no.yaml")]}, "no config file no.yaml"),
        ({"overrides": {"epochs": 3}}, "'epochs' is not an option"),
    ],
)
def test_bad_settings_are_refused(crops, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run_study(settings_of(crops, tmp_path, **changes))
