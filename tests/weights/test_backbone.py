import subprocess
import sys

import pytest
import torch
from monai.networks.nets import ViT

from miram.errors import InputError
from miram.networks.patches import positions_on_grid
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import (
    backbone_from_encoder,
    load_backbone,
    resize_backbone,
    save_weights_file,
    vit_from_backbone,
)

STOCK = """
import sys, torch
sys.modules["miram"] = None  # importing this package is now an error
from monai.networks.nets import ViT
backbone = torch.load(sys.argv[1], weights_only=True)
network = ViT(**backbone["network_def"])
print(network.load_state_dict(backbone["state_dict"], strict=True))
torch.manual_seed(1)
print(network(torch.randn(1, 1, 32, 32))[0].sum().item())
"""


@pytest.fixture
def backbone(tiny_encoder):
    return backbone_from_encoder(tiny_encoder, {"mean": 0.5}, {"version": "test"})


def test_loads_into_a_stock_vit_without_this_package(backbone, tmp_path):
    save_weights_file(tmp_path / "backbone.pt", backbone)
    command = [sys.executable, "-c", STOCK, str(tmp_path / "backbone.pt")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "<All keys matched successfully>"
    torch.manual_seed(1)
    expected = vit_from_backbone(backbone).eval()(torch.randn(1, 1, 32, 32))[0].sum().item()
    assert float(lines[1]) == pytest.approx(expected, abs=1e-3)  # a sum of 384 float32 numbers


def test_a_saved_backbone_comes_back_whole(backbone, tmp_path):
    save_weights_file(tmp_path / "backbone.pt", backbone)
    loaded = load_backbone(tmp_path / "backbone.pt")
    assert loaded["preprocessing"] == {"mean": 0.5}
    assert loaded["provenance"] == {"version": "test"}
    assert all(torch.equal(loaded["state_dict"][key], value) for key, value in backbone["state_dict"].items())


def test_a_classifier_keeps_the_encoder_and_its_class_token(tiny_encoder, backbone):
    network = vit_from_backbone(backbone, num_classes=3).eval()
    assert isinstance(network, ViT)
    image = torch.randn(2, 1, 32, 32)
    logits, _ = network(image)
    expected = network.classification_head(tiny_encoder.eval()(image)[:, 0])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_a_classifier_needs_a_class_token():
    encoder = ViTEncoder(1, 32, 8, 24, 48, 1, 2, class_token=False)
    with pytest.raises(InputError, match="class token"):
        vit_from_backbone(backbone_from_encoder(encoder, {}, {}), num_classes=2)


def test_weights_of_another_network_are_refused(backbone):
    del backbone["state_dict"]["norm.weight"]
    with pytest.raises(InputError, match=r"do not fit its network_def.*norm\.weight"):
        vit_from_backbone(backbone)


@pytest.mark.parametrize(
    ("size", "new_size"), [((32, 32), (48, 24)), ((32, 16), (16, 32)), ((16, 16, 32), (32, 24, 16))]
)
@pytest.mark.parametrize("kind", ["sincos", "learnable"])
def test_a_resized_backbone_is_that_of_an_encoder_of_the_new_size(kind, size, new_size):
    def encoder_of(size):
        return ViTEncoder(1, size, 8, 24, 48, 1, 2, pos_embed_type=kind, spatial_dims=len(size))

    encoder, resized = encoder_of(size), encoder_of(new_size).eval()
    backbone = backbone_from_encoder(encoder, {}, {})
    found = resize_backbone(backbone, new_size)
    assert backbone["network_def"]["img_size"] == list(size)  # it is left as it is
    state = encoder.state_dict()
    key = "patch_embedding.position_embeddings"
    grids = [[n // 8 for n in sides] for sides in (size, new_size)]
    state[key] = positions_on_grid(state[key], kind, *grids)
    resized.load_state_dict(state)
    image = torch.randn(1, 1, *new_size)
    logits, _ = vit_from_backbone(found, num_classes=3).eval()(image)
    assert logits.shape == (1, 3)
    expected = vit_from_backbone(backbone_from_encoder(resized, {}, {})).eval()(image)[0]
    assert torch.equal(vit_from_backbone(found).eval()(image)[0], expected)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((30, 32), "not a multiple of patch_size"),
        ((32,), "differ in dimensions"),
        ((32, 32, 32), "differ in dimensions"),
        ((0, 32), "not a multiple of patch_size"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(size, says, backbone):
    with pytest.raises(InputError, match=rf"cannot take images of .* pixels: .*{says}"):
        resize_backbone(backbone, size)


def test_positions_that_are_not_those_of_its_own_size_are_refused(backbone):
    backbone["network_def"]["img_size"] = [32, 64]
    with pytest.raises(InputError, match="16 positions do not fit a grid"):
        resize_backbone(backbone, (32, 32))


@pytest.mark.parametrize("shared", [False, True])
def test_a_small_file_that_claims_many_weights_is_refused(tmp_path, backbone, shared):
    """Tensors can be views of one number, or of each other, which no network that is built from them is."""
    room = torch.zeros(max(value.numel() for value in backbone["state_dict"].values()) if shared else 1)
    views = {
        key: room[: value.numel()].view(value.shape) if shared else room.expand(value.shape)
        for key, value in backbone["state_dict"].items()
    }
    torch.save({**backbone, "state_dict": views}, tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"b\.pt is damaged: it claims \d+ bytes of weights"):
        load_backbone(tmp_path / "b.pt")


def test_files_that_are_no_backbone_are_refused_by_name(tmp_path, backbone):
    with pytest.raises(InputError, match="no file"):
        load_backbone(tmp_path / "absent.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match=r"damaged\.pt"):
        load_backbone(tmp_path / "damaged.pt")
    torch.save({"model": 1}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt is not a backbone"):
        load_backbone(tmp_path / "other.pt")
    torch.save({"run": print}, tmp_path / "code.pt")
    with pytest.raises(InputError, match=r"code\.pt"):
        load_backbone(tmp_path / "code.pt")
