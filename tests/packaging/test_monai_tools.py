"""What MONAI's own functions make of a packaged bundle; mode full of the model zoo's check is these."""

import json
import shutil

import pandas as pd
import pytest
import torch
from monai.bundle import create_workflow, load, verify_metadata, verify_net_in_out

from miram.data.datalist import load_split
from miram.packaging.kinds import KINDS
from miram.prepare.prepared import read_png16

from ..classifier_case import as_input, make_classifier, save_model
from .conftest import run_without_our_package
from .zoo_rules import broken_rules

SCHEMA = "../shared/data/monai/meta_schema_20240725.json"


@pytest.fixture
def copied(packaged, tmp_path):
    """A bundle that a test may change."""
    return shutil.copytree(packaged, tmp_path / packaged.name)


def test_the_model_zoos_rules_hold(any_bundle):
    assert broken_rules(any_bundle) == []


def test_the_rules_find_what_is_wrong(copied):
    assert broken_rules(copied, (f"{copied.name}_v0.1.0",)) == ["version 0.1.0 is published already"]
    metadata = json.loads((copied / "configs/metadata.json").read_text())
    (copied / "configs/metadata.json").write_text(json.dumps(metadata | {"version": "9"}))
    config = json.loads((copied / "configs/train.json").read_text())
    del config["train"]["dataset"]
    (copied / "configs/train.json").write_text(json.dumps(config))
    found = broken_rules(copied)
    assert found[0] == "version 9 is not in the changelog"
    assert "train.json has no train#dataset#data" in found
    (copied / "LICENSE").unlink()
    assert broken_rules(copied) == ["no LICENSE"]


def test_metadata_are_valid(any_bundle, repository, tmp_path):
    if not (repository / SCHEMA).is_file():
        pytest.skip(f"MONAI's metadata schema is not at {SCHEMA}")
    schema = shutil.copy(repository / SCHEMA, tmp_path / "schema.json")
    verify_metadata(meta_file=str(any_bundle / "configs/metadata.json"), filepath=str(schema))
    wrong = json.loads((any_bundle / "configs/metadata.json").read_text())
    del wrong["network_data_format"]["inputs"]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=str(schema))


def network_files(bundle, config="inference"):
    files = {"meta_file": "metadata", "config_file": config}
    return {key: str(bundle / f"configs/{name}.json") for key, name in files.items()}


@pytest.mark.parametrize("config", ["inference", "train"])
def test_the_network_is_as_described(any_bundle, config):
    verify_net_in_out(net_id="network_def", device="cpu", **network_files(any_bundle, config))
    with pytest.raises(ValueError, match="output channel number `1` doesn't match: `2`"):
        verify_net_in_out(
            net_id="network_def",
            device="cpu",
            **network_files(any_bundle, config),
            **{"_meta_#network_data_format#outputs#pred#num_channels": 2},
        )


@pytest.mark.parametrize("workflow_type", ["train", "inference"])
def test_load_gives_the_trained_network(any_bundle, any_kind, any_checkpoint, workflow_type):
    network = load(any_bundle.name, bundle_dir=any_bundle.parent, workflow_type=workflow_type, device="cpu").eval()
    image = torch.randn(2, 1, 16, 16)
    # our encoder's fused attention rounds otherwise than the stock one
    expected = KINDS[any_kind].load(any_checkpoint).network(image)
    torch.testing.assert_close(network(image), expected, atol=2e-6, rtol=1e-5)


def test_load_needs_nothing_of_ours(packaged, tmp_path):
    code = f"""
import sys, torch, monai.bundle
network = monai.bundle.load({packaged.name!r}, bundle_dir={str(packaged.parent)!r}, device="cpu").eval()
print("logit", network(torch.full((1, 1, 16, 16), 0.5)).item(), "miram" in sys.modules)
"""
    done = run_without_our_package("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    _, logit, ours = done.stdout.splitlines()[-1].split()
    expected = make_classifier(steps=8)(torch.full((1, 1, 16, 16), 0.5)).item()
    assert float(logit) == pytest.approx(expected, abs=1e-5)
    assert ours == "False"


def test_a_workflow_that_was_created_is_run_and_asked(packaged, prepared, tmp_path, workflow):
    item = load_split(prepared, "test")[0]["image"]
    config = str(packaged / "configs/inference.json")
    workflow(packaged, "inference", input=item)  # sets back what the next line sets
    made = create_workflow(
        config_file=config, workflow_type="infer", input=item, output_dir=str(tmp_path), num_pictures=0, device="cpu"
    )
    assert made.bundle_root == str(packaged)
    assert made.version == "0.1.0"
    made.run()
    (row,) = pd.read_csv(tmp_path / "predictions.csv").to_dict("records")
    expected = make_classifier(steps=8)(as_input([read_png16(item)])).sigmoid().item()
    assert row["prob_MALIGNANT"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("inference", "infer"), ("evaluate", "infer"), ("train", "train")])
def test_what_a_monai_user_looks_for_is_where_monai_says(
    any_bundle, any_kind, prepared, workflow, tmp_path, name, kind
):
    if any_kind == "segmentation":
        pytest.skip("it needs other data: test_segmentation.py")
    data = {"input": str(prepared / "images")} if name == "inference" else {"dataset_dir": str(prepared)}
    made = workflow(any_bundle, name, workflow_type=kind, output_dir=str(tmp_path / "out"), **data)
    made.initialize()
    assert made.check_properties() == []


def test_several_classes_go_through_the_same_tools(repository, tmp_path):
    from miram.packaging.package import package_bundle

    network = make_classifier(3, "mean")
    path = save_model(tmp_path / "model.pt", network, "density", "multiclass", ["a", "b", "c"])
    folder = package_bundle(repository, "classification", path, tmp_path)
    assert broken_rules(folder) == []
    verify_net_in_out(net_id="network_def", device="cpu", **network_files(folder))
    image = torch.randn(2, 1, 16, 16)
    loaded = load(folder.name, bundle_dir=tmp_path, workflow_type="inference", device="cpu").eval()
    torch.testing.assert_close(loaded(image), network(image), atol=0, rtol=0)
