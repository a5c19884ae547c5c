"""The encoder in the formats of other libraries: a config and weights for timm, Hugging Face or stock MONAI."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from miram.errors import InputError
from miram.networks.patches import POSITIONS
from miram.weights.backbone import vit_from_backbone
from miram.weights.public_weights import HUGGING_FACE, TIMM, rename_layers

FORMATS = ("timm", "huggingface", "monai")
_LAYER_NORM_EPS = 1e-5  # MONAI's; timm's default is 1e-6, Hugging Face's 1e-12


class Exported(NamedTuple):
    """The configs by file name, and the weights."""

    configs: dict[str, dict[str, Any]]
    state_dict: dict[str, torch.Tensor]


def convert_backbone(backbone: Mapping[str, Any], format: str) -> Exported:
    """
    Convert a backbone for another library, which then computes the same tokens.

    Args:
        backbone: what :func:`miram.weights.backbone.load_backbone` returns.
        format: "timm", a `VisionTransformer` without head; "huggingface", a `ViTModel`; "monai", a stock `ViT` without
            class token.

    Returns:
        configs and weights. `config.json` contains the backbone's preprocessing and provenance under "miram".

    Raises:
        InputError: if the format is unknown, the weights do not fit the backbone's `network_def`, or the library does
            not have such a network.
    """
    converters = {"timm": _to_timm, "huggingface": _to_hugging_face, "monai": _to_monai}
    if format not in converters:
        raise InputError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    vit_from_backbone(backbone)  # raises if the weights do not fit a stock ViT
    configs, state = converters[format](backbone)
    facts = {"preprocessing": backbone["preprocessing"], "provenance": backbone["provenance"]}
    configs["config.json"]["miram"] = facts
    return Exported(configs, {key: value.contiguous().clone() for key, value in state.items()})


def _to_monai(backbone: Mapping[str, Any]) -> Exported:
    definition = {"_target_": "monai.networks.nets.ViT", **backbone["network_def"]}
    return Exported({"config.json": {"network_def": definition}}, dict(backbone["state_dict"]))


def _to_timm(backbone: Mapping[str, Any]) -> Exported:
    definition = _of_images(backbone, "timm")
    token = backbone["cls_token"]
    state = _renamed(backbone, TIMM) | {"pos_embed": _positions(backbone)}
    if token is not None:
        state["cls_token"] = token
    width, channels = definition["hidden_size"], definition["in_channels"]
    mean, std = _normalisation(backbone["preprocessing"])
    config = {
        # Of timm's plain ViTs, those of the CLIP family have layer norms with MONAI's epsilon. Their only other
        # difference, pre_norm, is switched off below. All sizes are arguments.
        "architecture": "vit_base_patch16_clip_224",
        "num_classes": 0,
        "num_features": width,
        "model_args": {
            "img_size": definition["img_size"],
            "patch_size": definition["patch_size"],
            "in_chans": channels,
            "num_classes": 0,
            "embed_dim": width,
            "depth": definition["num_layers"],
            "num_heads": definition["num_heads"],
            "mlp_ratio": _mlp_ratio(definition["mlp_dim"], width),
            "qkv_bias": definition["qkv_bias"],
            "pre_norm": False,
            "class_token": token is not None,
            "global_pool": "avg" if token is None else "token",
            "fc_norm": False,  # average after the last norm, not before
        },
        "pretrained_cfg": {
            "input_size": [channels, *definition["img_size"]],
            "fixed_input_size": True,
            "crop_pct": 1.0,
            "mean": [mean] * channels,
            "std": [std] * channels,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    return Exported({"config.json": config}, state)


def _to_hugging_face(backbone: Mapping[str, Any]) -> Exported:
    definition = _of_images(backbone, "Hugging Face")
    if backbone["cls_token"] is None:
        raise InputError(
            "a ViT of Hugging Face always has a class token, but this backbone was trained without one: "
            "choose the format timm or monai"
        )
    state = _renamed(backbone, HUGGING_FACE)
    state["embeddings.position_embeddings"] = _positions(backbone)
    state["embeddings.cls_token"] = backbone["cls_token"]
    config = {
        "model_type": "vit",
        "architectures": ["ViTModel"],
        "image_size": definition["img_size"],
        "patch_size": definition["patch_size"],
        "num_channels": definition["in_channels"],
        "hidden_size": definition["hidden_size"],
        "intermediate_size": definition["mlp_dim"],
        "num_hidden_layers": definition["num_layers"],
        "num_attention_heads": definition["num_heads"],
        "qkv_bias": definition["qkv_bias"],
        "hidden_act": "gelu",
        "layer_norm_eps": _LAYER_NORM_EPS,
    }
    return Exported({"config.json": config, "preprocessor_config.json": _image_processor(backbone)}, state)


def _of_images(backbone: Mapping[str, Any], library: str) -> dict[str, Any]:
    """The arguments of a network for 2D images."""
    definition = dict(backbone["network_def"])
    if definition["spatial_dims"] != 2:
        raise InputError(
            f"this backbone is for {definition['spatial_dims']}D volumes, but the ViT of {library} is for 2D images: "
            "choose the format monai"
        )
    return definition


def _renamed(backbone: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Rename the layers; query, key and value are split if the format has separate layers for them."""
    theirs = {ours: name for name, ours in names.items()}
    # The caller adds the positions. The norm of cross-attention is never used.
    state = {k: v for k, v in backbone["state_dict"].items() if k != POSITIONS and ".norm_cross_attn." not in k}
    if "blocks.*.attn.qkv" not in theirs:
        state = _part_query_key_value(state)
    renamed = rename_layers(state, theirs)
    placed = rename_layers(renamed, names)
    if placed.keys() != state.keys():
        lost = sorted(state.keys() - placed.keys())
        raise InputError(
            f"this format has no place for {len(lost)} of the backbone's {len(state)} weights: {', '.join(lost[:5])}"
        )
    return renamed


def _part_query_key_value(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Split the one layer for query, key and value into three."""
    parted: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            parts = zip("qkv", value.chunk(3), strict=True)
            parted |= {key.replace(".qkv.", f".{letter}."): part for letter, part in parts}
        else:
            parted[key] = value
    return parted


def _positions(backbone: Mapping[str, Any]) -> torch.Tensor:
    """Positions (1, [1 +] N, D): the class token has none, so its position is zero."""
    positions, token = backbone["state_dict"][POSITIONS], backbone["cls_token"]
    return positions if token is None else torch.cat((torch.zeros_like(token), positions), dim=1)


def _mlp_ratio(mlp_dim: int, hidden_size: int) -> float:
    """The ratio from which timm computes `int(hidden_size * ratio)`."""
    ratio = mlp_dim / hidden_size
    return ratio if int(hidden_size * ratio) == mlp_dim else math.nextafter(ratio, math.inf)


def _normalisation(preprocessing: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation that scale stored values, divided by their range, to the encoder's range."""
    names = ("b_min", "b_max", "a_min", "a_max")
    missing = [name for name in names if name not in preprocessing]
    if missing:
        raise InputError(f"the backbone's preprocessing {dict(preprocessing)} does not say {', '.join(missing)}")
    low, high, a_min, a_max = (preprocessing[name] for name in names)
    std = 1 / (high - low)
    return a_min / (a_max - a_min) - low * std, std


def _image_processor(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `ViTImageProcessor` that preprocesses images as in training."""
    definition, preprocessing = backbone["network_def"], backbone["preprocessing"]
    mean, std = _normalisation(preprocessing)
    channels = definition["in_channels"]
    height, width = definition["img_size"]
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": False,
        "do_resize": False,  # Pillow would reduce 16 bits to 8
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / (preprocessing["a_max"] - preprocessing["a_min"]),
        "do_normalize": True,
        "image_mean": [mean] * channels,
        "image_std": [std] * channels,
    }
