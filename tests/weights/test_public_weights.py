"""Against randomly initialised networks of the libraries themselves."""

import functools

import pytest
import torch
from torch import nn

from miram.errors import InputError
from miram.weights.pretrained import pretrained_classifier, read_pretrained
from miram.weights.public_weights import convert_public_weights

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
PIXELS = {"image_size": 32, "patch_size": 8}


@pytest.fixture
def gray():
    return torch.randn(2, 1, 32, 32)


def varied(network):
    """Let nothing be left at zero or one, so that a mistaken bias or norm shows."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def features(path, gray, num_heads=4):
    pretrained = read_pretrained(path, num_heads)
    network = pretrained_classifier(pretrained.encoder, 1, pretrained).eval()
    with torch.no_grad():
        return network.encoder(gray)


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def hugging_face_vit():
    transformers = pytest.importorskip("transformers")
    return varied(transformers.ViTModel(transformers.ViTConfig(**SIZES, **PIXELS)))


def test_vit_of_hugging_face_gives_the_same_features(tmp_path, gray):
    network = hugging_face_vit()
    with torch.no_grad():
        expected = network(gray.expand(-1, 3, -1, -1)).last_hidden_state
    torch.testing.assert_close(features(saved(tmp_path, network.state_dict()), gray), expected, atol=1e-4, rtol=0)


def test_mae_of_hugging_face_gives_the_same_features_and_its_decoder_is_left_out(tmp_path, gray):
    transformers = pytest.importorskip("transformers")
    network = varied(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**SIZES, **PIXELS, mask_ratio=0.0)))
    order = torch.arange(16.0)[None].expand(2, -1)  # MAE sorts the patches by noise: keep them in their order
    with torch.no_grad():
        expected = network.vit(gray.expand(-1, 3, -1, -1), noise=order).last_hidden_state
    path = saved(tmp_path, network.state_dict())
    torch.testing.assert_close(features(path, gray), expected, atol=1e-4, rtol=0)
    assert not any("decoder" in key for key in read_pretrained(path).state_dict)


OLD_NAMES = {
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def test_the_older_names_of_files_on_the_hub_are_known():
    network = hugging_face_vit()
    new = network.state_dict()
    old = {}
    for key, value in new.items():
        before = functools.reduce(lambda name, pair: name.replace(*pair), OLD_NAMES.items(), key)
        old["vit." + before] = value
    assert "vit.encoder.layer.0.attention.attention.query.weight" in old
    expected, converted = (convert_public_weights("", content, 4).state_dict for content in (new, old))
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)


def test_safetensors_are_read(tmp_path, gray):
    safetensors = pytest.importorskip("safetensors.torch")
    network = hugging_face_vit()
    safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors")
    expected = features(saved(tmp_path, network.state_dict()), gray)
    assert torch.equal(features(tmp_path / "model.safetensors", gray), expected)


def timm_like():
    """The keys and shapes of a timm ViT of width 128, without timm."""
    width, tensors = 128, {"cls_token": (1, 1, 128), "pos_embed": (1, 10, 128), "head.weight": (5, 128)}
    tensors |= {"patch_embed.proj.weight": (width, 3, 4, 4), "patch_embed.proj.bias": (width,), "norm.weight": (width,)}
    tensors |= {"norm.bias": (width,), "blocks.0.attn.qkv.weight": (3 * width, width)}
    tensors |= {"blocks.0.mlp.fc1.weight": (2 * width, width), "blocks.0.mlp.fc2.weight": (width, 2 * width)}
    return {key: torch.randn(shape) for key, shape in tensors.items()}


def test_timm_keys_colors_positions_and_sizes():
    content = timm_like()
    converted = convert_public_weights("weights.pth", content)
    assert converted.encoder == {
        "in_channels": 1,
        "img_size": [12, 12],
        "patch_size": [4, 4],
        "hidden_size": 128,
        "mlp_dim": 256,
        "num_layers": 1,
        "num_heads": 2,
        "qkv_bias": False,
        "pos_embed_type": "learnable",
        "spatial_dims": 2,
        "class_token": True,
    }
    state = converted.state_dict
    assert "head.weight" not in state
    summed = content["patch_embed.proj.weight"].sum(1, keepdim=True)
    assert torch.equal(state["patch_embedding.patch_embeddings.weight"], summed)
    assert torch.equal(state["cls_token"], content["cls_token"] + content["pos_embed"][:, :1])
    assert torch.equal(state["patch_embedding.position_embeddings"], content["pos_embed"][:, 1:])
    assert torch.equal(state["blocks.0.mlp.linear2.weight"], content["blocks.0.mlp.fc2.weight"])


def test_what_is_no_vit_is_refused():
    with pytest.raises(InputError, match=r"x\.pth is neither .* conv1\.weight"):
        convert_public_weights("x.pth", {"conv1.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="8 positions, which do not form a square"):
        convert_public_weights("x.pth", timm_like() | {"pos_embed": torch.zeros(1, 9, 128)})


@pytest.mark.parametrize("key", ["pos_embed", "blocks.0.mlp.fc1.weight"])
def test_a_file_without_a_part_is_refused_by_its_name(key):
    content = timm_like()
    del content[key]
    with pytest.raises(InputError, match=r"x\.pth lacks .*, a part of the encoder: give the whole file"):
        convert_public_weights("x.pth", content)


def test_blocks_missing_in_the_middle_are_missed(tmp_path):
    content = timm_like()
    content["blocks.2.mlp.fc1.weight"] = content["blocks.0.mlp.fc1.weight"]
    pretrained = read_pretrained(saved(tmp_path, content))
    assert pretrained.encoder["num_layers"] == 3
    with pytest.raises(InputError, match=r"29 of 39 keys do not fit"):
        pretrained_classifier(pretrained.encoder, 1, pretrained)


def test_one_of_three_projections_is_missed():
    content = hugging_face_vit().state_dict()
    del content[next(key for key in content if key.endswith("k_proj.weight"))]
    with pytest.raises(InputError, match=r"x \(blocks\.0\.attn\.qkv\.weight\) lacks k"):
        convert_public_weights("x", content)


@pytest.mark.parametrize("layer", ["ls1.gamma", "attn.q_norm.weight", "attn.relative_position_bias_table"])
def test_layers_that_our_vit_lacks_are_refused(layer):
    """Those of DINOv2 and BEiT: without them the features would be others."""
    with pytest.raises(InputError, match=rf"layers that our ViT does not have \(1 keys, such as blocks\.0\.{layer}"):
        convert_public_weights("x.pth", timm_like() | {f"blocks.0.{layer}": torch.zeros(1)})


def test_a_file_with_fewer_blocks_than_published_is_warned_of(caplog):
    widened = {"patch_embed.proj.weight": torch.zeros(192, 3, 4, 4), "cls_token": torch.zeros(1, 1, 192)}
    convert_public_weights("x.pth", timm_like() | widened | {"pos_embed": torch.zeros(1, 10, 192)})
    assert "x.pth has 1 blocks; published ViTs of width 192 have 12" in caplog.text
