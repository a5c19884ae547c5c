import filecmp
import json
import shutil
import zipfile

import pytest
import torch

from miram.errors import InputError
from miram.inference.calibrated import Calibration, save_calibration
from miram.inference.classifying import load_trained
from miram.networks.classifier import ViTClassifier
from miram.packaging.archive import files_of
from miram.packaging.kinds import Kind
from miram.packaging.package import package_bundle
from miram.weights.backbone import save_weights_file
from miram.weights.classifier import classifier_content

from ..classifier_case import ENCODER, PREPROCESSING, make_classifier, save_model
from .conftest import CLASSES, NAME

EXPECTED = {
    "LICENSE",
    "metadata.json",
    "configs/metadata.json",
    "configs/train.json",
    "configs/inference.json",
    "configs/evaluate.json",
    "configs/multi_gpu_train.json",
    "configs/logging.conf",
    "models/model.pt",
    "docs/README.md",
    "docs/data_license.txt",
    "miram/__init__.py",
    "miram/packaging/weights.py",
}


def names_of(folder):
    return {path.relative_to(folder).as_posix() for path in files_of(folder)}


def test_a_bundle_has_what_monai_asks_for_and_nothing_else(packaged):
    names = names_of(packaged)
    assert names >= EXPECTED
    assert {name for name in names - EXPECTED if not (name.startswith("miram/") and name.endswith(".py"))} == set()
    assert filecmp.cmp(packaged / "metadata.json", packaged / "configs/metadata.json", shallow=False)


def test_the_zip_holds_the_folder(packaged):
    with zipfile.ZipFile(packaged.with_suffix(".zip")) as archive:
        assert archive.testzip() is None
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    assert content == {f"{NAME}/{name}": (packaged / name).read_bytes() for name in names_of(packaged)}


def test_two_builds_are_the_same_bytes(repository, checkpoint, tmp_path):
    renamed = shutil.copy(checkpoint, tmp_path / "renamed.pt")
    one = package_bundle(repository, "classification", checkpoint, tmp_path / "one")
    two = package_bundle(repository, "classification", renamed, tmp_path / "two")
    assert names_of(one) == names_of(two)
    assert [name for name in names_of(one) if (one / name).read_bytes() != (two / name).read_bytes()] == []
    assert one.with_suffix(".zip").read_bytes() == two.with_suffix(".zip").read_bytes()


def test_only_the_own_earlier_output_is_replaced(repository, checkpoint, tmp_path):
    folder = package_bundle(repository, "classification", checkpoint, tmp_path)
    (folder / "miram/__pycache__").mkdir()
    other = save_model(tmp_path / "other.pt", make_classifier(2), "density", "multiclass", ["low", "high"])
    assert package_bundle(repository, "classification", other, tmp_path) == folder
    facts = json.loads((folder / "configs/inference.json").read_text())["facts"]
    assert facts["task"]["classes"] == ["low", "high"]
    assert {path.name for path in tmp_path.iterdir()} == {NAME, f"{NAME}.zip", "other.pt"}

    (folder / "runs").mkdir()
    (folder / "runs/history.csv").write_text("mine")
    with pytest.raises(InputError, match=r"added or changed after packaging: .*runs/history\.csv"):
        package_bundle(repository, "classification", checkpoint, tmp_path)
    assert (folder / "runs/history.csv").read_text() == "mine"


def test_a_folder_of_another_origin_is_left_alone(repository, checkpoint, tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(InputError, match="was not packaged here"):
        package_bundle(repository, "classification", checkpoint, tmp_path)


def test_nothing_is_left_of_a_bundle_that_fails(repository, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("miram.packaging.package.export", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        package_bundle(repository, "classification", checkpoint, tmp_path / "dist", formats=["ts"])
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_calibration_of_this_checkpoint_goes_in_and_others_are_refused(repository, checkpoint, tmp_path):
    digest = load_trained(checkpoint).sha256
    save_calibration(tmp_path / "own.json", Calibration([1.5], [0.5], "", {"image": {"MALIGNANT": 0.4}}, "", digest))
    save_calibration(tmp_path / "other.json", Calibration([1.5], [0.5], model_sha256="0"))
    folder = package_bundle(repository, "classification", checkpoint, tmp_path, tmp_path / "own.json")
    facts = json.loads((folder / "configs/inference.json").read_text())["facts"]
    assert (facts["scale"], facts["bias"], facts["thresholds"]) == ([1.5], [0.5], {"image": {"MALIGNANT": 0.4}})
    for name, message in {"other.json": "another model", "none.json": "there is no calibration"}.items():
        with pytest.raises(InputError, match=message):
            package_bundle(repository, "classification", checkpoint, tmp_path, tmp_path / name)


def of_volumes(path):
    encoder = {**ENCODER, "img_size": [8, 8, 8], "patch_size": [4, 4, 4], "spatial_dims": 3}
    task = {"name": "pathology", "type": "binary", "classes": CLASSES}
    save_weights_file(path, classifier_content(ViTClassifier(encoder, 1), task, PREPROCESSING, {}))


def of_another_architecture(path):
    save_model(path, make_classifier(), "pathology", "binary", CLASSES)
    content = torch.load(path, weights_only=True)
    content["network_def"]["encoder"]["hidden_size"] = 48
    torch.save(content, path)


def backbone(path):
    torch.save({"network_def": {}, "state_dict": {}, "cls_token": None, "preprocessing": {}, "provenance": {}}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no checkpoint"),
        (lambda path: path.write_bytes(b"damaged"), "cannot be read as weights"),
        (backbone, r"is not a classifier: it lacks .*'task'"),
        (of_another_architecture, "weights do not fit the network that it describes"),
        (of_volumes, "is for volumes"),
    ],
    ids=["none", "damaged", "backbone", "other", "volumes"],
)
def test_a_checkpoint_that_does_not_belong_is_refused(repository, tmp_path, make, message):
    make(tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        package_bundle(repository, "classification", tmp_path / "model.pt", tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_a_name_that_monai_label_would_take_for_another_task_is_refused():
    with pytest.raises(ValueError, match="MONAI Label would infer detection from 'lesion_detection_classification'"):
        Kind("lesion_detection_classification", "classification", "", load_trained, {}, {})
