"""The packaged segmentation, as a user of MONAI runs it; test_monai_tools.py applies to it as well."""

import json
import shutil
import sys

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser

from miram.data.datalist import write_datalist
from miram.errors import InputError
from miram.packaging.package import package_bundle
from miram.packaging.weights import load_packaged, read_state
from miram.prepare.prepared import write_png16

from ..classifier_case import make_crop


@pytest.fixture
def bundle(repository, segmentation_checkpoint, tmp_path):
    return package_bundle(repository, "segmentation", segmentation_checkpoint, tmp_path / "dist")


@pytest.fixture
def masked(tmp_path):
    """A prepared folder of crops with masks."""
    rng, items = np.random.default_rng(0), []
    for n in range(8):
        crop = make_crop(True, (n % 4, 1), rng)
        item = {"image": f"{n}.png", "mask": f"mask_{n}.png", "patient": f"p{n}", "lesion": f"p{n}/1"}
        write_png16(tmp_path / "data" / item["image"], crop)
        write_png16(tmp_path / "data" / item["mask"], np.where(crop == 60_000, 65535, 0).astype(np.uint16))
        items.append(item)
    splits = {"training": items[:4], "validation": items[4:6], "test": items[6:]}
    write_datalist(tmp_path / "data", splits)
    return tmp_path / "data"


def test_monai_label_finds_one_label(bundle):
    assert bundle.name == "breast_lesion_segmentation"
    outputs = json.loads((bundle / "metadata.json").read_text())["network_data_format"]["outputs"]
    assert [name for name in outputs["pred"]["channel_def"].values() if name != "background"] == ["lesion"]


def test_windows_overlap_as_in_the_config_it_comes_from(bundle, repository):
    packaged, own = ConfigParser(), ConfigParser()
    packaged.read_config(bundle / "configs/inference.json")
    own.read_config(repository / "configs/segment_inference.yaml")
    assert packaged.get_parsed_content("overlap") == own["overlap"]


def test_a_served_crop_is_refused_like_a_crop_of_ones_own(bundle, tmp_path):
    crop = np.random.default_rng(0).integers(10_000, 30_000, size=(40, 40)).astype(np.uint16)
    crop[:, 30:] = 0
    write_png16(tmp_path / "crop.png", crop)
    packaged = ConfigParser()
    packaged.read_config(bundle / "configs/inference.json")
    packaged["bundle_root"] = str(bundle)
    load = packaged.get_parsed_content("pre_transforms#0#transforms#0")
    with pytest.raises(InputError, match="looks like a crop"):
        load({"image": str(tmp_path / "crop.png")})


def test_it_segments_a_mammogram_from_any_folder(bundle, workflow, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segment"])
    image = np.zeros((100, 80), np.uint16)
    image[10:90, :60] = np.random.default_rng(0).integers(10_000, 30_000, size=(80, 60))
    image[40:48, 20:28] = 60_000
    write_png16(tmp_path / "a.png", image)
    paths = {"input": str(tmp_path / "a.png"), "output_dir": str(tmp_path / "out")}
    made = workflow(bundle, "inference", workflow_type="infer", overlays=False, progress=False, **paths)
    made.initialize()
    assert made.check_properties() == []
    made.run()
    mask = np.asarray(nibabel.load(tmp_path / "out/a_label.nii.gz").dataobj).T
    assert mask.shape == image.shape
    assert 2 * (mask & (image == 60_000)).sum() / (mask.sum() + 64) > 0.7


def test_training_goes_on_from_the_bundles_weights_and_replaces_them(bundle, workflow, masked):
    before = read_state(bundle / "models/model.pt")
    small = {"max_epochs": 1, "warmup_epochs": 0, "batch_size": 4, "progress": False, "base_learning_rate": 1e-2}
    made = workflow(bundle, "train", dataset_dir=str(masked), allow_leakage="images", **small)
    made.initialize()
    made.run()
    after = read_state(bundle / "models/model.pt")
    assert after.keys() == before.keys()
    moved = max((after[key] - before[key]).abs().max().item() for key in before)
    assert 0 < moved < 0.1  # an epoch from where it stood, not from random weights
    facts = json.loads((bundle / "configs/inference.json").read_text())["facts"]
    assert load_packaged(bundle / "models/model.pt", facts).task.scored == ("lesion",)


@pytest.mark.parametrize(("name", "kind"), [("evaluate", "infer"), ("train", "train")])
def test_what_a_monai_user_looks_for_is_where_monai_says(bundle, workflow, masked, tmp_path, name, kind):
    options = {"dataset_dir": str(masked), "output_dir": str(tmp_path / "out")}
    options |= {"allow_leakage": "images"} if name == "train" else {}
    made = workflow(bundle, name, workflow_type=kind, **options)
    made.initialize()
    assert made.check_properties() == []


@pytest.mark.parametrize(("kind", "words"), [("segmentation", "is a classifier"), ("riskmap", "segments lesions")])
def test_a_model_of_another_kind_is_refused(repository, checkpoint, segmentation_checkpoint, tmp_path, kind, words):
    wrong = shutil.copy(checkpoint if kind == "segmentation" else segmentation_checkpoint, tmp_path / "model.pt")
    with pytest.raises(InputError, match=words):
        package_bundle(repository, kind, wrong, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()
