import json

import pytest
import torch
from monai.bundle import ConfigParser

from miram.errors import InputError
from miram.packaging.export_backbone import export_backbone
from miram.weights.backbone import backbone_from_encoder, save_weights_file, vit_from_backbone

RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


@pytest.fixture
def backbone(tiny_encoder, tmp_path):
    content = backbone_from_encoder(tiny_encoder, RANGE, {"seed": 3})
    save_weights_file(tmp_path / "backbone.pt", content)
    return content


def test_a_config_of_monai_builds_the_exported_network(backbone, tmp_path):
    folder = export_backbone(tmp_path / "backbone.pt", "monai", tmp_path / "new/stock")
    network = ConfigParser(ConfigParser.load_config_file(folder / "config.json")).get_parsed_content("network_def")
    network.load_state_dict(torch.load(folder / "model.pt", weights_only=True), strict=True)
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(network.eval()(image)[0], vit_from_backbone(backbone).eval()(image)[0])


def test_positions_are_exported_for_another_size(backbone, tmp_path):
    folder = export_backbone(tmp_path / "backbone.pt", "timm", tmp_path / "timm", image_size=[48, 32])
    config = json.loads((folder / "config.json").read_text())
    assert config["model_args"]["img_size"] == [48, 32]
    safetensors = pytest.importorskip("safetensors.torch")
    assert safetensors.load_file(folder / "model.safetensors")["pos_embed"].shape == (1, 1 + 24, 24)


@pytest.mark.parametrize("format", ["timm", "huggingface", "monai"])
def test_the_same_backbone_gives_the_same_bytes_and_replaces_an_earlier_export(format, backbone, tmp_path):
    def content():
        folder = export_backbone(tmp_path / "backbone.pt", format, tmp_path / "exported")
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    export_backbone(tmp_path / "backbone.pt", "monai", tmp_path / "exported")
    first, second = content(), content()
    assert first == second
    assert ("model.pt" in first) == (format == "monai")  # nothing is left of an earlier format
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone.pt", "exported"]


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_a_folder_of_something_else_is_left_as_it_is(name, backbone, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="mine exists and is not an export of a backbone: move it away"):
        export_backbone(tmp_path / "backbone.pt", "monai", tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == '{"model_type": "vit"}'


def test_a_file_in_the_folders_place_is_left_as_it_is(backbone, tmp_path):
    (tmp_path / "mine").write_text("text")
    with pytest.raises(InputError, match="mine exists and is not an export"):
        export_backbone(tmp_path / "backbone.pt", "monai", tmp_path / "mine")


def test_a_failed_export_leaves_the_earlier_one(backbone, tmp_path):
    folder = export_backbone(tmp_path / "backbone.pt", "monai", tmp_path / "exported")
    before = (folder / "model.pt").read_bytes()
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match=r"damaged\.pt"):
        export_backbone(tmp_path / "damaged.pt", "monai", folder)
    with pytest.raises(InputError, match="not a multiple of patch_size"):
        export_backbone(tmp_path / "backbone.pt", "monai", folder, image_size=[33, 32])
    assert (folder / "model.pt").read_bytes() == before
