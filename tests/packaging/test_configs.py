import json

import pytest
import yaml
from monai.bundle import ConfigParser

from miram.inference.classifying import load_trained
from miram.packaging.configs import make_config, make_metadata, run_in_one_section

from ..classifier_case import make_classifier, save_model


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write


def test_overlays_are_merged_as_monai_does_and_values_come_last(folder):
    path = folder(
        base={"a": 1, "train": {"items": [1, 2]}, "gone": 0, "filled": None},
        over={"train#items": [5], "new": "@a"},
    )
    made = make_config(path, ("base", "over"), {"filled": {"x": 1}, "unknown": 2}, without=("gone",))
    assert made == {"a": 1, "train": {"items": [5]}, "filled": {"x": 1}, "new": "@a"}


def test_initialize_becomes_the_head_of_run():
    assert run_in_one_section({"initialize": [1], "a": 2, "run": [3]}) == {"a": 2, "run": [1, 3]}
    assert run_in_one_section({"device": 1}) == {"device": 1}


@pytest.mark.parametrize("name", ["train", "inference", "evaluate", "multi_gpu_train"])
def test_no_packaged_config_imports_our_package_early(packaged, name):
    """MONAI evaluates all imports with the first id that it reads, and finds the bundle's code only from `run` on."""
    config = ConfigParser.load_config_file(packaged / f"configs/{name}.json")
    assert "initialize" not in config
    assert not [line for line in config.get("imports", []) if "miram" in line]


@pytest.fixture
def metadata(packaged):
    return json.loads((packaged / "configs/metadata.json").read_text())


def test_versions_and_changelog_are_those_of_the_repository(metadata, repository):
    base = json.loads((repository / "metadata.json").read_text())
    same = ["schema", "version", "changelog", "monai_version", "pytorch_version", "required_packages_version"]
    assert {key: metadata[key] for key in same} == {key: base[key] for key in same}
    assert "not a medical device" in metadata["intended_use"]


def test_the_networks_own_sizes_and_classes_are_described(metadata):
    described = metadata["network_data_format"]
    assert described["inputs"]["image"]["spatial_shape"] == [16, 16]
    for stage in ("outputs", "post_processed_outputs"):
        assert described[stage]["pred"]["num_channels"] == 1
        assert described[stage]["pred"]["channel_def"] == {"0": "MALIGNANT"}
    assert metadata["pred_classes"] == "pathology (binary): probability of MALIGNANT"


def test_several_classes_and_what_the_weights_come_from(repository, tmp_path):
    trained = load_trained(
        save_model(tmp_path / "model.pt", make_classifier(3), "density", "multiclass", ["a", "b", "c"])
    )
    trained.provenance.update(
        training_images=120, validation={"val_auc": 0.81239}, pretrained_provenance={"dataset": {"source": "somewhere"}}
    )
    made = make_metadata(repository / "configs/metadata.json", {"name": "other", "pred_classes": "own"}, trained)
    assert made["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "a", "1": "b", "2": "c"}
    assert made["data_source"].startswith("fine-tuned on 120 labelled images")
    assert made["data_source"].endswith("pretraining data: somewhere")
    assert made["eval_metrics"] == {"val_auc of the best epoch": 0.8124}
    assert (made["name"], made["pred_classes"]) == ("other", "own")
