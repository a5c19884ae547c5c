"""Packaged bundles of a tiny classifier and a tiny segmentation, and ways to use it as other people's tools do."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import monai
import pytest
from monai.bundle import ConfigWorkflow

from miram.packaging.kinds import KINDS
from miram.packaging.package import package_bundle

from ..classifier_case import make_classifier, make_folder, make_segmenter, save_model
from ..conftest import REPOSITORY

MakeWorkflow = Callable[..., ConfigWorkflow]
CLASSES = ["BENIGN", "MALIGNANT"]
NAME = "breast_lesion_classification"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `model.pt` of a classifier that pools the class token and has begun to learn."""
    path = tmp_path_factory.mktemp("run") / "model.pt"
    return save_model(path, make_classifier(steps=8), "pathology", "binary", CLASSES)


@pytest.fixture(scope="session")
def packaged(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's folder; its zip lies beside it. Tests that change it copy it."""
    return package_bundle(REPOSITORY, "classification", checkpoint, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def segmentation_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `model.pt` of a segmentation that has learnt what a bright square is."""
    path = tmp_path_factory.mktemp("segment") / "model.pt"
    return save_model(path, make_segmenter(steps=60), "segmentation", "binary", ["background", "lesion"])


@pytest.fixture(scope="session", params=KINDS)
def any_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of bundle in turn."""
    return request.param


@pytest.fixture(scope="session")
def any_checkpoint(any_kind: str, checkpoint: Path, segmentation_checkpoint: Path) -> Path:
    """A `model.pt` for that kind of bundle."""
    return segmentation_checkpoint if any_kind == "segmentation" else checkpoint


@pytest.fixture(scope="session")
def any_bundle(any_kind: str, any_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that kind of bundle."""
    return package_bundle(REPOSITORY, any_kind, any_checkpoint, tmp_path_factory.mktemp(any_kind))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder for training and evaluation."""
    return make_folder(tmp_path_factory.mktemp("data"), {"training": 8, "validation": 6, "test": 8})


@pytest.fixture
def workflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeWorkflow]:
    """Make a bundle's workflow in this process, from a directory that has nothing to do with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(bundle: Path, name: str, **overrides: Any) -> ConfigWorkflow:
        given = {"device": "cpu", "num_workers": 0, **overrides}
        return ConfigWorkflow(str(bundle / f"configs/{name}.json"), logging_file=False, **given)

    yield make
    monai.data.set_track_meta(True)


def run_without_our_package(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """
    Run Python where every package is installed but ours: without `site`, an editable installation is not found.

    Args:
        arguments: of Python.
        cwd: the working directory.
    """
    packages = sysconfig.get_path("purelib")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": packages, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-S", *map(str, arguments)]
    found = subprocess.run([*command[:2], "-c", "import miram"], env=environment, cwd=cwd, capture_output=True)
    if found.returncode == 0:
        pytest.skip("this package is installed as a copy (not with -e), so that it cannot be left out")
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)
