"""Small prepared folders for end-to-end runs, and a way to run a config as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from scipy.ndimage import gaussian_filter

from miram.data.datalist import write_datalist
from miram.prepare.prepared import write_png16, write_volume

MakeWorkflow = Callable[..., ConfigWorkflow]
Command = Callable[..., dict[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = """
prepare_data: null
image_size: [32, 32]
hidden_size: 24
mlp_dim: 48
num_layers: 2
num_heads: 2
decoders:
  - {scale: 1, hidden_size: 16, num_layers: 1, num_heads: 2}
  - {scale: 2, kind: cross_attention, hidden_size: 16, num_layers: 1, num_heads: 2}
max_epochs: 2
warmup_epochs: 1
batch_size: 4
val_interval: 1
picture_interval: 2
num_pictures: 2
"""


def smooth_noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Something to reconstruct: smooth noise over the full 16-bit range."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return ((field - field.min()) / np.ptp(field) * 65535).astype(np.uint16)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """14 crops of 7 patients: 10 for training, 4 for validation."""
    items = [{"image": f"images/{n}.png", "patient": f"p{n // 2}"} for n in range(14)]
    for n, item in enumerate(items):
        write_png16(tmp_path / "data" / item["image"], smooth_noise((80, 80), n))
    write_datalist(tmp_path / "data", {"training": items[:10], "validation": items[10:], "test": []})
    return tmp_path / "data"


@pytest.fixture
def prepared_volumes(tmp_path: Path) -> Path:
    """Six volumes of 36 voxels a side, five for training."""
    items = [{"image": f"images/{n}.nii.gz", "patient": f"p{n}"} for n in range(6)]
    for n, item in enumerate(items):
        write_volume(tmp_path / "volumes" / item["image"], smooth_noise((36, 36, 36), n), (1.0, 1.0, 1.0))
    write_datalist(tmp_path / "volumes", {"training": items[:5], "validation": items[5:], "test": []})
    return tmp_path / "volumes"


@pytest.fixture
def inferring(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorkflow]:
    """Make the workflow of a config that does not train in this process; what configs set is set back."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def workflow(config: str, **overrides: Any) -> ConfigWorkflow:
        arguments = {"device": "cpu", **overrides}
        return ConfigWorkflow(
            f"configs/{config}.yaml", logging_file=False, workflow_type="infer", run_id="evaluating", **arguments
        )

    yield workflow
    monai.data.set_track_meta(True)


def run(workflow: ConfigWorkflow) -> None:
    """Run a workflow as `monai.bundle run` does."""
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.fixture
def workflow_of(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorkflow]:
    """Make the workflow of a config in this process, small sizes as the last overlay; what configs set is set back."""
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def workflow(*overlays: str, small: bool = True, **overrides: Any) -> ConfigWorkflow:
        files = [f"configs/{name}.yaml" for name in ("pretrain", *overlays)] + [str(tmp_path / "small.yaml")] * small
        overrides = {"output_dir": str(tmp_path / "run"), "num_workers": 0, "device": "cpu", **overrides}
        return ConfigWorkflow(files, logging_file=False, workflow_type="train", **overrides)

    with warnings.catch_warnings():
        yield workflow
    monai.data.set_track_meta(True)


@pytest.fixture
def command_of(repository: Path, tmp_path: Path) -> Command:
    """`monai.bundle run training` with overlays and overrides, small sizes as the last overlay, for `Popen`."""
    (tmp_path / "small.yaml").write_text(SMALL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def command(*overlays: str, launcher: tuple[str, ...] = (sys.executable,), **overrides: object) -> dict[str, Any]:
        files = [f"configs/{name}.yaml" for name in ("pretrain", *overlays)] + [str(tmp_path / "small.yaml")]
        arguments = [*launcher, "-m", "monai.bundle", "run", "training", "--config_file", str(files)]
        for name, value in {"output_dir": tmp_path / "run", "num_workers": 0, **overrides}.items():
            arguments += [f"--{name}", str(value)]
        return {"args": arguments, "cwd": repository, "env": environment, "text": True}

    return command


@pytest.fixture
def run_config(command_of: Command) -> Run:
    """Run a config to its end, as a user does from the repository's root."""

    def run(*overlays: str, **overrides: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(**command_of(*overlays, **overrides), capture_output=True, timeout=300)

    return run
