"""Several processes under torchrun, over gloo on the CPU: they learn what one learns, and go on when one dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from miram.data.datalist import read_datalist, write_datalist

from ..classifier_case import make_classifier, make_folder, save_model

pytestmark = pytest.mark.slow
COLUMNS = ("train_loss_1x", "train_loss_2x", "val_loss_1x", "val_loss_2x", "val_mean_2x", "rank", "learning_rate")


def torchrun(processes: int, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *options)


@pytest.fixture
def uneven(prepared: Path) -> Path:
    """10 crops for training and 5 for validation, no multiple of 2 or 4 processes."""
    datalist = read_datalist(prepared)
    shutil.copy(prepared / "images/13.png", prepared / "images/14.png")
    datalist["validation"].append({"image": "images/14.png", "patient": "p7"})
    write_datalist(prepared, datalist)
    return prepared


def weights_of(run: Path, name: str = "backbone.pt", part: str = "state_dict") -> dict[str, torch.Tensor]:
    return torch.load(run / name, weights_only=True)[part]


@pytest.mark.parametrize(
    ("processes", "overlay", "options"),
    [
        (1, "multi_gpu", {}),
        (2, "multi_gpu", {}),
        (4, "multi_gpu", {}),
        (2, "fsdp", {"clip_grad_norm": 0.1}),
        (4, "fsdp", {"shard_size": 2}),
    ],
)
def test_processes_learn_what_one_learns(processes, overlay, options, uneven, run_config, tmp_path):
    """
    The same global batch: gradients are summed in another order, so figures agree to rounding.

    A sum of float32 numbers in another order differs by some 1e-7; two epochs of steps let it grow, to below 1e-5.
    """
    clip = {name: value for name, value in options.items() if name == "clip_grad_norm"}
    alone = run_config(dataset_dir=uneven, output_dir=tmp_path / "one", batch_size=4, **clip)
    assert alone.returncode == 0, alone.stderr
    done = run_config(
        overlay,
        launcher=torchrun(processes),
        dataset_dir=uneven,
        output_dir=tmp_path / "several",
        batch_size=4 // processes,
        **options,
    )
    assert done.returncode == 0, done.stderr
    one, several = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "several"))
    assert several["epoch"].tolist() == [1, 2]
    for column in COLUMNS:
        assert several[column].tolist() == pytest.approx(one[column].tolist(), rel=1e-5), column
    assert done.stdout.count("epoch 1/2") == 1  # one process logs
    assert files_of(tmp_path / "several") == files_of(tmp_path / "one")  # and one writes
    check_weights(tmp_path / "one", tmp_path / "several")


def files_of(run: Path) -> list[str]:
    """Names of all files; those of TensorBoard hold the time."""
    return sorted(path.name for path in run.rglob("*") if "tfevents" not in path.name)


def check_weights(one: Path, several: Path) -> None:
    """Files of weights are whole, and agree: Adam divides by the root of small numbers, so to 1e-5 of a step's 1e-3."""
    for name, part in (("backbone.pt", "state_dict"), ("checkpoint.pt", "network")):
        expected, found = weights_of(one, name, part), weights_of(several, name, part)
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("overlay", ["multi_gpu", "fsdp"])
def test_two_views_are_compared_over_the_images_of_all_processes(overlay, uneven, run_config, tmp_path):
    """Correlations and batch normalisation are of the global batch, in validation of 5 images too."""
    runs = {"one": ((), (sys.executable,), 6), "two": ((overlay,), torchrun(2), 3)}
    small = {"projection_sizes": "[16,16]", "decoders": "[]", "num_pictures": 0}
    for name, (overlays, launcher, batch_size) in runs.items():
        done = run_config(
            "barlow_twins",
            *overlays,
            launcher=launcher,
            dataset_dir=uneven,
            output_dir=tmp_path / name,
            batch_size=batch_size,
            **small,
        )
        assert done.returncode == 0, done.stderr
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in runs)
    for column in ("train_loss_barlow_twins", "val_loss", "rank"):
        assert two[column].tolist() == pytest.approx(one[column].tolist(), rel=1e-4), column


def test_what_a_sharded_run_wrote_one_process_goes_on_from(uneven, run_config, tmp_path):
    arguments = {"dataset_dir": uneven, "batch_size": 2}
    done = run_config("fsdp", launcher=torchrun(2), **arguments)
    assert done.returncode == 0, done.stderr
    before = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    again = run_config(**arguments, max_epochs=3)
    assert again.returncode == 0, again.stderr
    assert "after epoch 2 of 3" in again.stdout
    assert pd.read_csv(tmp_path / "run/history.csv")["epoch"].tolist() == [1, 2, 3]
    shapes = {k: v["exp_avg"].shape for k, v in before["optimizer"]["state"].items()}
    after = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert {k: v["exp_avg"].shape for k, v in after["optimizer"]["state"].items()} == shapes


def test_an_evaluation_by_processes_has_each_image_once(repository, tmp_path):
    """14 test and 8 validation images over 3 processes; sums in batches of another size agree to rounding."""
    make_folder(tmp_path / "data", {"training": 1, "validation": 4, "test": 7})
    model = save_model(tmp_path / "model.pt", make_classifier(steps=8), "pathology", "binary", ["BENIGN", "MALIGNANT"])
    found = {}
    for name, overlays, launcher in (("one", [], (sys.executable,)), ("three", ["multi_gpu"], torchrun(3))):
        files = [f"configs/{file}.yaml" for file in ("evaluate", *overlays)]
        command = [*launcher, "-m", "monai.bundle", "run", "evaluating", "--config_file", str(files)]
        values = {"dataset_dir": tmp_path / "data", "model": model, "output_dir": tmp_path / name, "num_workers": 0}
        for key, value in {**values, "n_resamples": 50, "num_cases": 2, "batch_size": 2}.items():
            command += [f"--{key}", str(value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("the report is") == 1
        found[name] = pd.read_csv(tmp_path / name / "predictions.csv")
    assert len(found["one"]) == 14
    pd.testing.assert_frame_equal(found["three"], found["one"], rtol=1e-5)
    assert files_of(tmp_path / "three") == files_of(tmp_path / "one")


def test_a_linear_probe_by_processes_is_that_of_one(repository, tmp_path):
    make_folder(tmp_path / "data", {"training": 5, "validation": 4})
    small = {"image_size": [16, 16], "patch_size": [8, 8], "hidden_size": 24, "num_layers": 1, "num_heads": 2}
    values = {**small, "mlp_dim": 48, "pretrained": "none", "num_workers": 0, "task": "pathology", "batch_size": 2}
    for name, overlays, launcher in (("one", [], (sys.executable,)), ("two", ["multi_gpu"], torchrun(2))):
        files = [f"configs/{file}.yaml" for file in ("finetune", *overlays, "linear_probe")]
        command = [*launcher, "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
        for key, value in {**values, "dataset_dir": tmp_path / "data", "output_dir": tmp_path / name}.items():
            command += [f"--{key}", str(value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (weights_of(tmp_path / name, "model.pt") for name in ("one", "two"))
    # the features come in another order, so sums differ by rounding, and the regression stops at a tolerance of 1e-4
    torch.testing.assert_close(two["classification_head.weight"], one["classification_head.weight"], atol=1e-4, rtol=0)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds torchrun's processes through Linux's /proc")
@pytest.mark.parametrize("overlay", ["multi_gpu", "fsdp"])
def test_a_run_goes_on_by_itself_when_a_process_is_killed(overlay, uneven, command_of, tmp_path):
    """Two processes add two numbers, in either order the same: the bits are those of a run that was left alone."""
    arguments: dict[str, Any] = {"dataset_dir": uneven, "batch_size": 2, "max_epochs": 6}
    launcher = torchrun(2, "--max-restarts=1")
    whole = subprocess.run(
        **command_of(overlay, launcher=launcher, **arguments, output_dir=tmp_path / "whole"), capture_output=True
    )
    assert whole.returncode == 0, whole.stderr
    command = command_of(overlay, launcher=launcher, **arguments, output_dir=tmp_path / "cut")
    process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not (tmp_path / "cut/checkpoint.pt").exists():
        time.sleep(0.01)
    os.kill(children_of(process.pid)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "resumed from" in output
    assert pd.read_csv(tmp_path / "cut/history.csv")["epoch"].tolist() == list(range(1, 7))
    expected, found = (weights_of(tmp_path / name, "checkpoint.pt", "network") for name in ("whole", "cut"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
