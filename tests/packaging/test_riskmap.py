"""The packaged risk map, as a user of MONAI runs it."""

import json
import sys

import nibabel
import numpy as np
import pytest

from miram.packaging.package import package_bundle
from miram.prepare.prepared import write_png16

from .zoo_rules import broken_rules


@pytest.fixture(scope="module")
def riskmap(repository_root, checkpoint, tmp_path_factory):
    return package_bundle(repository_root, "riskmap", checkpoint, tmp_path_factory.mktemp("riskmap"))


@pytest.fixture(scope="module")
def repository_root():
    from ..conftest import REPOSITORY

    return REPOSITORY


def test_the_model_zoos_rules_hold(riskmap):
    assert riskmap.name == "breast_lesion_riskmap_segmentation"
    assert broken_rules(riskmap) == []


def test_monai_label_finds_one_label(riskmap):
    outputs = json.loads((riskmap / "metadata.json").read_text())["network_data_format"]["outputs"]
    assert [name for name in outputs["pred"]["channel_def"].values() if name != "background"] == ["lesion risk"]


def test_it_maps_a_mammogram_from_any_folder(riskmap, workflow, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["riskmap"])
    image = np.zeros((100, 80), np.uint16)
    image[10:90, :60] = np.random.default_rng(0).integers(10_000, 30_000, size=(80, 60))
    write_png16(tmp_path / "a.png", image)
    made = workflow(
        riskmap,
        "inference",
        workflow_type="infer",
        input=str(tmp_path / "a.png"),
        output_dir=str(tmp_path / "out"),
        overlap=0.5,
    )
    made.initialize()
    assert made.check_properties() == []
    made.run()
    label = np.asarray(nibabel.load(tmp_path / "out/a_label.nii.gz").dataobj)
    probability = np.asarray(nibabel.load(tmp_path / "out/a_probability.nii.gz").dataobj)
    assert label.shape == (80, 100)
    np.testing.assert_array_equal(label, probability >= 0.5)
    assert (probability > 0).mean() == pytest.approx(0.6, abs=0.05)  # the tissue's share of the image
