import logging

import pytest
import torch

from miram.errors import InputError
from miram.networks.patches import positions_on_grid, resize_position_embeddings
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.pretrained import (
    compare_field_of_view,
    compare_preprocessing,
    encoder_arguments,
    load_encoder,
    pretrained_classifier,
    read_pretrained,
)

RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
DEFAULTS = {
    "in_channels": 1,
    "img_size": [64, 64],
    "patch_size": [16, 16],
    "hidden_size": 48,
    "mlp_dim": 96,
    "num_layers": 3,
    "num_heads": 4,
    "spatial_dims": 2,
    "class_token": True,
}


def encoder_of(**arguments):
    sizes = {"img_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
    return ViTEncoder(1, **{**sizes, **arguments})


@pytest.fixture
def pretrained_of(tmp_path):
    def make(**arguments):
        encoder = encoder_of(**arguments)
        path = tmp_path / "backbone.pt"
        save_weights_file(path, backbone_from_encoder(encoder, RANGE, {"scales": [1, 2]}))
        return encoder, read_pretrained(path)

    return make


@pytest.mark.parametrize("nothing", [None, "none", "None", ""])
def test_nothing_to_start_from(nothing, caplog):
    assert read_pretrained(nothing) is None
    arguments = encoder_arguments(None, None, DEFAULTS, drop_path_rate=0.2)
    assert arguments == {**DEFAULTS, "drop_path_rate": 0.2, "activation_checkpointing": False}
    with caplog.at_level(logging.INFO):
        pretrained_classifier(arguments, 1, None)
    assert "no pretraining: the encoder starts from random weights" in caplog.text


def test_an_absent_file_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"absent\.pt: run configs/pretrain\.yaml first, .*--pretrained none"):
        read_pretrained(tmp_path / "absent.pt")


@pytest.mark.parametrize("class_token", [True, False])
def test_a_backbone_brings_its_sizes_and_its_weights(class_token, pretrained_of, caplog):
    encoder, pretrained = pretrained_of(class_token=class_token, pos_embed_type="learnable")
    arguments = encoder_arguments(pretrained, None, DEFAULTS)
    assert (arguments["hidden_size"], arguments["img_size"], arguments["num_layers"]) == (24, [32, 32], 2)
    with caplog.at_level(logging.INFO):
        network = pretrained_classifier(arguments, 2, pretrained, pool="mean")
    image = torch.randn(2, 1, 32, 32)
    assert torch.equal(network.eval().encoder(image), encoder.eval()(image))
    count = len([key for key in encoder.state_dict() if "norm_cross_attn" not in key])
    assert f"(miram format): {count} of {count} keys loaded" in caplog.text
    assert "not loaded: none; unused: none" in caplog.text


def test_fixed_positions_are_computed_for_another_size(pretrained_of):
    _, pretrained = pretrained_of()
    network = pretrained_classifier(encoder_arguments(pretrained, [48, 32], DEFAULTS), 1, pretrained)
    fresh = encoder_of(img_size=(48, 32))
    positions = network.encoder.patch_embedding.position_embeddings
    assert torch.equal(positions, fresh.patch_embedding.position_embeddings)
    assert torch.equal(network.encoder.cls_token, pretrained.state_dict["cls_token"])


def test_learned_positions_are_interpolated_for_another_size(pretrained_of):
    encoder, pretrained = pretrained_of(pos_embed_type="learnable")
    network = pretrained_classifier(encoder_arguments(pretrained, [64, 32], DEFAULTS), 1, pretrained)
    expected = resize_position_embeddings(encoder.patch_embedding.position_embeddings, (4, 4), (8, 4))
    assert torch.equal(network.encoder.patch_embedding.position_embeddings, expected)


@pytest.mark.parametrize("kind", ["sincos", "learnable"])
def test_positions_follow_the_grid_where_only_its_sides_are_swapped(kind, pretrained_of):
    encoder, pretrained = pretrained_of(img_size=(64, 32), pos_embed_type=kind)
    network = pretrained_classifier(encoder_arguments(pretrained, [32, 64], DEFAULTS), 1, pretrained)
    expected = positions_on_grid(encoder.patch_embedding.position_embeddings, kind, (8, 4), (4, 8))
    assert torch.equal(network.encoder.patch_embedding.position_embeddings, expected)


def test_weights_that_match_too_little_stop_with_their_keys(pretrained_of):
    _, pretrained = pretrained_of()
    other = encoder_of(mlp_dim=64, num_layers=3)
    with pytest.raises(
        InputError,
        match=r"another encoder.*: .*blocks\.0\.mlp\.linear1\.bias \(\(48,\) in the file, \(64,\)",
    ):
        load_encoder(other, pretrained)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


PARTS = ["norm.bias", "cls_token", "patch_embedding.patch_embeddings.weight", "blocks.1.", "blocks.0.attn.qkv.weight"]


@pytest.mark.parametrize("part", [*PARTS, "patch_embedding.position_embeddings"])
def test_weights_that_miss_a_part_are_refused_by_its_name(part, pretrained_of):
    encoder, pretrained = pretrained_of(pos_embed_type="learnable")
    for key in [key for key in pretrained.state_dict if key.startswith(part)]:
        del pretrained.state_dict[key]
    with pytest.raises(InputError, match=rf"keys do not fit: {part}.*\(absent in the file"):
        load_encoder(encoder, pretrained)


def test_blocks_that_the_encoder_lacks_are_refused(pretrained_of):
    _, pretrained = pretrained_of()
    with pytest.raises(InputError, match=r"blocks\.1\.attn\.out_proj\.bias \(\(24,\) in the file, absent here\)"):
        load_encoder(encoder_of(num_layers=1), pretrained)


def test_what_may_be_absent_is_logged_as_is_what_is_left_over(pretrained_of, caplog):
    """The fixed positions, which the encoder computes; and heads are not the encoder's."""
    encoder, pretrained = pretrained_of()
    del pretrained.state_dict["patch_embedding.position_embeddings"]
    pretrained.state_dict["head.weight"] = torch.zeros(1)
    with caplog.at_level(logging.INFO):
        load_encoder(encoder, pretrained)
    assert "not loaded: patch_embedding.position_embeddings; unused: head.weight" in caplog.text


def test_a_class_token_that_the_encoder_does_not_use_is_left_over(pretrained_of, caplog):
    _, pretrained = pretrained_of()
    with caplog.at_level(logging.INFO):
        load_encoder(encoder_of(class_token=False), pretrained)
    assert "not loaded: none; unused: cls_token" in caplog.text


@pytest.mark.parametrize(
    ("mode", "frozen", "pool"),
    [
        ("finetune", False, "token"),
        ("linear_probe", True, "token"),
        ("attentive_probe", True, "attention"),
    ],
)
def test_modes(mode, frozen, pool, pretrained_of):
    _, pretrained = pretrained_of()
    network = pretrained_classifier(encoder_arguments(pretrained, None, DEFAULTS), 1, pretrained, mode=mode)
    assert (network.frozen, network.pool) == (frozen, pool)
    assert any(p.requires_grad for p in network.encoder.parameters()) != frozen


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="mode 'probe' is not one of finetune"):
        pretrained_classifier(DEFAULTS, 1, None, mode="probe")


def test_another_range_of_pixels_is_warned_of_with_both(pretrained_of, caplog):
    _, pretrained = pretrained_of()
    compare_preprocessing(pretrained, RANGE)
    compare_preprocessing(None, RANGE)
    assert caplog.text == ""
    compare_preprocessing(pretrained, {**RANGE, "b_min": 0.0})
    assert "'b_min': -2.0" in caplog.text
    assert "'b_min': 0.0" in caplog.text


def test_another_field_of_view_is_warned_of(pretrained_of, caplog):
    _, pretrained = pretrained_of()  # 32 pixels showed 64 of a crop
    compare_field_of_view(pretrained, [64, 64], [32, 32])
    compare_field_of_view(pretrained, [128, 128], [64, 64])
    assert caplog.text == ""
    compare_field_of_view(pretrained, [32, 32], [32, 32])
    assert "in pretraining [32, 32] showed [64, 64]" in caplog.text
    compare_field_of_view(pretrained, [32, 32], [16, 16])
    assert "the middle [32, 32] pixels of a crop; in pretraining it saw [64, 64]" in caplog.text
