import pytest
import torch
from torch import nn

from miram.errors import InputError
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder
from miram.weights.foreign_formats import convert_backbone
from miram.weights.public_weights import convert_public_weights

RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}


def encoder_of(**arguments):
    """Nothing is left at zero or one, so that a mistaken bias or norm shows."""
    sizes = {"img_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 60, "num_layers": 2, "num_heads": 2}
    encoder = ViTEncoder(**{"in_channels": 1, **sizes, **arguments})
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def backbone_of(**arguments):
    return backbone_from_encoder(encoder_of(**arguments), RANGE, {"seed": 3})


VARIANTS = [
    {},
    {"img_size": (32, 48), "patch_size": (8, 4), "in_channels": 2},
    {"qkv_bias": False, "pos_embed_type": "learnable"},
]


@pytest.mark.parametrize("arguments", VARIANTS)
def test_hugging_face_gives_the_same_tokens(arguments, tmp_path):
    transformers = pytest.importorskip("transformers")
    safetensors = pytest.importorskip("safetensors.torch")
    encoder = encoder_of(**arguments)
    converted = convert_backbone(backbone_from_encoder(encoder, RANGE, {}), "huggingface")
    config = transformers.ViTConfig.from_dict(converted.configs["config.json"])
    config.save_pretrained(tmp_path)
    safetensors.save_file(converted.state_dict, tmp_path / "model.safetensors", metadata={"format": "pt"})
    image = torch.randn(2, encoder.in_channels, *encoder.img_size)
    vit, facts = transformers.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(vit.eval()(image).last_hidden_state, encoder(image), atol=1e-4, rtol=0)


def test_the_encoder_of_a_hugging_face_mae_gives_the_same_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    safetensors = pytest.importorskip("safetensors.torch")
    encoder = encoder_of()
    converted = convert_backbone(backbone_from_encoder(encoder, RANGE, {}), "huggingface")
    safetensors.save_file(converted.state_dict, tmp_path / "model.safetensors", metadata={"format": "pt"})
    names = ("image_size", "patch_size", "num_channels", "hidden_size", "intermediate_size", "layer_norm_eps")
    given = {name: converted.configs["config.json"][name] for name in names}
    config = transformers.ViTMAEConfig(num_hidden_layers=2, num_attention_heads=2, mask_ratio=0.0, **given)
    mae = transformers.ViTMAEModel.from_pretrained(tmp_path, config=config).eval()
    image, order = torch.randn(2, 1, 32, 32), torch.arange(16.0)[None].expand(2, -1)  # MAE sorts patches by noise
    with torch.no_grad():
        torch.testing.assert_close(mae(image, noise=order).last_hidden_state, encoder(image), atol=1e-4, rtol=0)


def test_the_image_processor_of_hugging_face_makes_the_encoders_input():
    transformers = pytest.importorskip("transformers")
    config = convert_backbone(backbone_of(), "huggingface").configs["preprocessor_config.json"]
    processor = transformers.ViTImageProcessor.from_dict(config)
    stored = torch.randint(0, 65536, (1, 32, 32)).numpy().astype("uint16")
    given = processor(stored, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    expected = torch.from_numpy(stored.astype("float32"))[None] / 65535 * 4 - 2
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_what_is_exported_is_read_back(format):
    backbone = backbone_of()
    read = convert_public_weights("", convert_backbone(backbone, format).state_dict, num_heads=2)
    assert read.format == format
    expected = {**backbone["state_dict"], "cls_token": backbone["cls_token"]}
    optional = {key for key in expected if "norm_cross_attn" in key}
    assert read.state_dict.keys() == expected.keys() - optional
    assert all(torch.equal(value, expected[key]) for key, value in read.state_dict.items())


@pytest.mark.parametrize(("hidden_size", "mlp_dim"), [(192, 768), (24, 60), (36, 98), (1022, 4087)])
def test_timm_makes_the_width_of_the_feed_forward_layers_from_a_ratio(hidden_size, mlp_dim):
    backbone = backbone_of(hidden_size=hidden_size, mlp_dim=mlp_dim, pos_embed_type="learnable")
    ratio = convert_backbone(backbone, "timm").configs["config.json"]["model_args"]["mlp_ratio"]
    assert int(hidden_size * ratio) == mlp_dim


def test_without_a_class_token_timm_averages_the_tokens_and_hugging_face_has_no_such_network():
    backbone = backbone_of(class_token=False)
    converted = convert_backbone(backbone, "timm")
    arguments = converted.configs["config.json"]["model_args"]
    assert (arguments["class_token"], arguments["global_pool"], arguments["fc_norm"]) == (False, "avg", False)
    assert converted.state_dict["pos_embed"].shape == (1, 16, 24)
    with pytest.raises(InputError, match="trained without one: choose the format timm or monai"):
        convert_backbone(backbone, "huggingface")


@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_volumes_are_refused_where_there_are_images_only(format):
    backbone = backbone_of(img_size=16, spatial_dims=3)
    with pytest.raises(InputError, match=r"for 3D volumes.*choose the format monai"):
        convert_backbone(backbone, format)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_monai_gets_a_config_and_the_weights_of_a_stock_vit(spatial_dims):
    backbone = backbone_of(spatial_dims=spatial_dims)
    converted = convert_backbone(backbone, "monai")
    config = converted.configs["config.json"]
    assert config["network_def"] == {"_target_": "monai.networks.nets.ViT", **backbone["network_def"]}
    assert config["miram"] == {"preprocessing": RANGE, "provenance": {"seed": 3}}
    assert converted.state_dict.keys() == backbone["state_dict"].keys()


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="format 'keras' is not one of timm, huggingface, monai"):
        convert_backbone(backbone_of(), "keras")


@pytest.mark.parametrize("format", ["timm", "huggingface", "monai"])
def test_weights_of_another_network_are_refused(format):
    backbone = backbone_of()
    backbone["state_dict"]["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    with pytest.raises(InputError, match=r"do not fit its network_def.*blocks\.0\.attn\.qkv\.weight"):
        convert_backbone(backbone, format)


def test_another_architecture_that_monai_builds_is_refused_where_it_has_no_place():
    backbone = backbone_of()
    backbone["network_def"] |= {"proj_type": "perceptron"}
    backbone["state_dict"]["patch_embedding.patch_embeddings.1.weight"] = torch.zeros(24, 64)
    backbone["state_dict"]["patch_embedding.patch_embeddings.1.bias"] = torch.zeros(24)
    for kind in ("weight", "bias"):
        del backbone["state_dict"][f"patch_embedding.patch_embeddings.{kind}"]
    with pytest.raises(InputError, match=r"no place for .*patch_embeddings\.1\.bias"):
        convert_backbone(backbone, "timm")


def test_a_range_of_pixels_that_is_not_told_is_asked_for():
    backbone = backbone_from_encoder(encoder_of(), {"mean": 0.5}, {})
    with pytest.raises(InputError, match=r"preprocessing \{'mean': 0\.5\} does not say b_min, b_max, a_min, a_max"):
        convert_backbone(backbone, "timm")
