"""Convert ViT and MAE weights in the format of timm (and MAE's authors) or Hugging Face to our encoder's keys."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from miram.errors import InputError
from miram.networks.patches import POSITIONS

logger = logging.getLogger(__name__)

# Blocks of published ViTs (Ti, S, B, L, H) by their width: a file cut short at the end of a block shows nowhere else.
_PUBLISHED_DEPTHS = {192: 12, 384: 12, 768: 12, 1024: 24, 1280: 32}

# Prefixes of the encoder's keys in networks that contain it, and keys under which files wrap their weights.
_PREFIXES = ("module.", "vit.", "model.", "encoder_model.")
_WRAPPERS = ("model", "state_dict", "model_state_dict")

# Their layers and ours; * is a block's number.
TIMM = {
    "patch_embed.proj": "patch_embedding.patch_embeddings",
    "blocks.*.norm1": "blocks.*.norm1",
    "blocks.*.attn.qkv": "blocks.*.attn.qkv",
    "blocks.*.attn.proj": "blocks.*.attn.out_proj",
    "blocks.*.norm2": "blocks.*.norm2",
    "blocks.*.mlp.fc1": "blocks.*.mlp.linear1",
    "blocks.*.mlp.fc2": "blocks.*.mlp.linear2",
    "norm": "norm",
}
# As in files on the hub; q, k and v are the three parts of our layer qkv, in that order.
HUGGING_FACE = {
    "embeddings.patch_embeddings.projection": "patch_embedding.patch_embeddings",
    "encoder.layer.*.layernorm_before": "blocks.*.norm1",
    "encoder.layer.*.attention.attention.query": "blocks.*.attn.q",
    "encoder.layer.*.attention.attention.key": "blocks.*.attn.k",
    "encoder.layer.*.attention.attention.value": "blocks.*.attn.v",
    "encoder.layer.*.attention.output.dense": "blocks.*.attn.out_proj",
    "encoder.layer.*.layernorm_after": "blocks.*.norm2",
    "encoder.layer.*.intermediate.dense": "blocks.*.mlp.linear1",
    "encoder.layer.*.output.dense": "blocks.*.mlp.linear2",
    "layernorm": "norm",
}
# Version 5 of transformers uses other names in its networks, but reads and writes those of the hub.
HUGGING_FACE_5 = {
    "layers.*.layernorm_before": "blocks.*.norm1",
    "layers.*.attention.q_proj": "blocks.*.attn.q",
    "layers.*.attention.k_proj": "blocks.*.attn.k",
    "layers.*.attention.v_proj": "blocks.*.attn.v",
    "layers.*.attention.o_proj": "blocks.*.attn.out_proj",
    "layers.*.layernorm_after": "blocks.*.norm2",
    "layers.*.mlp.fc1": "blocks.*.mlp.linear1",
    "layers.*.mlp.fc2": "blocks.*.mlp.linear2",
}


class PublicWeights(NamedTuple):
    """The format, arguments of a fitting encoder, its state, and what its layer norms add to the variance."""

    format: str
    encoder: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    layer_norm_eps: float


def convert_public_weights(source: str, content: Mapping[str, Any], num_heads: int | None = None) -> PublicWeights:
    """
    Convert a file of public weights; the keys of heads and decoders are left out.

    The three colors of the first layer are summed, since a gray image is the same in all three. The position of the
    class token is added to the token. Layer norms add 1e-6 (timm, MAE) or 1e-12 (Hugging Face) to the variance, whereas
    MONAI's add 1e-5. This matters for tokens that vary little, such as an untrained class token: with MONAI's epsilon,
    features of randomly initialised networks differ by up to 0.6; with the format's own, by less than 1e-5.

    Raises:
        InputError: if the file has neither format, lacks a part of the encoder, or has a part that our encoder lacks,
            such as the layer scale of DINOv2: without it the features would be others.
    """
    weights = _of_encoder(unwrap(content))
    hugging_face = "embeddings.patch_embeddings.projection.weight" in weights
    if not hugging_face and "patch_embed.proj.weight" not in weights:
        raise InputError(
            f"{source} is neither our backbone.pt nor a ViT of timm or Hugging Face; its first keys are "
            f"{', '.join(map(str, list(content)[:3]))}"
        )
    names = {**HUGGING_FACE, **HUGGING_FACE_5} if hugging_face else TIMM
    _refuse_unknown_layers(source, weights, names)
    state = {key: value.detach().float().clone() for key, value in rename_layers(weights, names).items()}
    if hugging_face:
        state = join_query_key_value(source, state)
    _gray(state)
    positions = _part(source, weights, "embeddings.position_embeddings" if hugging_face else "pos_embed")
    token = weights.get("embeddings.cls_token" if hugging_face else "cls_token")
    grid = _add_positions(source, state, positions, token)
    name, eps = ("huggingface", 1e-12) if hugging_face else ("timm", 1e-6)
    arguments = arguments_of(source, state, [grid, grid], num_heads)
    _warn_if_cut_short(source, arguments)
    return PublicWeights(name, arguments, state, eps)


def _part(source: str, state: Mapping[str, torch.Tensor], key: str) -> torch.Tensor:
    if key not in state:
        raise InputError(f"{source} lacks {key}, a part of the encoder: give the whole file (all of its shards in one)")
    return state[key]


def _refuse_unknown_layers(source: str, weights: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> None:
    """Refuse a file whose blocks have what ours do not have."""
    blocks = {key for key in weights if re.match(r"(blocks|encoder\.layer|layers)\.\d+\.", key)}
    unknown = sorted(key for key in blocks if not rename_layers({key: weights[key]}, names))
    if unknown:
        raise InputError(
            f"{source} has layers that our ViT does not have ({len(unknown)} keys, such as {', '.join(unknown[:3])}): "
            "its features would be wrong without them. Give a plain ViT or MAE, or another --pretrained"
        )


def unwrap(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a file, without the dictionaries that they may be wrapped in."""
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _of_encoder(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's weights, without the prefixes of a network that contains it."""
    for prefix in _PREFIXES:
        if any(key.startswith((prefix + "embeddings.", prefix + "patch_embed.")) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights


def rename_layers(weights: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """
    Rename the layers of weights and biases; layers without a new name are left out.

    Args:
        weights: a state dictionary.
        names: new names by old names, with * for a block's number, such as :data:`TIMM`.
    """
    state = {}
    for key, value in weights.items():
        layer, _, kind = key.rpartition(".")
        number = re.search(r"\.(\d+)\.", layer)
        name = names.get(layer if number is None else layer.replace(number[0], ".*.", 1))
        if name is not None:
            state[f"{name if number is None else name.replace('*', number[1])}.{kind}"] = value
    return state


def join_query_key_value(source: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Join the three layers for query, key and value, in this order, into one."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    joined = {}
    for key, value in state.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn\.)([qkv])\.(weight|bias)", key)
        if match:
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = value
        else:
            joined[key] = value
    for name, part in parts.items():
        joined[name] = torch.cat([_part(f"{source} ({name})", part, letter) for letter in "qkv"])
    return joined


def _gray(state: dict[str, torch.Tensor]) -> None:
    """Sum the colors of the first layer."""
    name = "patch_embedding.patch_embeddings.weight"
    state[name] = state[name].sum(dim=1, keepdim=True)


def _add_positions(
    source: str, state: dict[str, torch.Tensor], positions: torch.Tensor, token: torch.Tensor | None
) -> int:
    """Split positions into those of the patches and that of the class token; returns the side of the square grid."""
    positions = positions.detach().float()
    if token is not None:
        state["cls_token"] = token.detach().float() + positions[:, :1]
        positions = positions[:, 1:]
    side = math.isqrt(positions.shape[1])
    if side * side != positions.shape[1]:
        raise InputError(f"{source} has {positions.shape[1]} positions, which do not form a square of patches")
    state[POSITIONS] = positions.clone()
    return side


def arguments_of(
    source: str, state: Mapping[str, torch.Tensor], grid: Sequence[int], num_heads: int | None = None
) -> dict[str, Any]:
    """
    Arguments of an encoder with these weights.

    Args:
        num_heads: attention heads, which weights do not show; by default width / 64.

    Returns:
        arguments of :class:`miram.networks.vit_encoder.ViTEncoder`; positions count as learned, since weights do not
        show their kind.

    Raises:
        InputError: if the first block is missing.
    """
    hidden_size, in_channels, *patch_size = state["patch_embedding.patch_embeddings.weight"].shape
    return {
        "in_channels": in_channels,
        "img_size": [count * patch for count, patch in zip(grid, patch_size, strict=True)],
        "patch_size": patch_size,
        "hidden_size": hidden_size,
        "mlp_dim": _part(source, state, "blocks.0.mlp.linear1.weight").shape[0],
        "num_layers": 1 + max((int(key.split(".")[1]) for key in state if key.startswith("blocks.")), default=-1),
        "num_heads": num_heads or max(hidden_size // 64, 1),
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "pos_embed_type": "learnable",
        "spatial_dims": len(patch_size),
        "class_token": "cls_token" in state,
    }


def _warn_if_cut_short(source: str, arguments: Mapping[str, Any]) -> None:
    hidden_size, num_layers = arguments["hidden_size"], arguments["num_layers"]
    if num_layers < _PUBLISHED_DEPTHS.get(hidden_size, 0):
        logger.warning(
            "%s has %d blocks; published ViTs of width %d have %d. If it was cut short, its features are worthless",
            source,
            num_layers,
            hidden_size,
            _PUBLISHED_DEPTHS[hidden_size],
        )
