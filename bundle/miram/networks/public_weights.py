"""ViT and MAE weights in the format of timm (and of MAE's authors) or of Hugging Face, under our encoder's keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from miram.errors import InputError

# What stands before the encoder's keys in networks that hold it, and what a file wraps its weights in.
_PREFIXES = ("module.", "vit.", "model.", "encoder_model.")
_WRAPPERS = ("model", "state_dict", "model_state_dict")

_TIMM = {
    r"patch_embed\.proj\.(weight|bias)": r"patch_embedding.patch_embeddings.\1",
    r"blocks\.(\d+)\.attn\.proj\.(weight|bias)": r"blocks.\1.attn.out_proj.\2",
    r"blocks\.(\d+)\.mlp\.fc([12])\.(weight|bias)": r"blocks.\1.mlp.linear\2.\3",
    r"(blocks\.\d+\.(?:norm[12]|attn\.qkv)\.(?:weight|bias))": r"\1",
    r"norm\.(weight|bias)": r"norm.\1",
}
# Hugging Face renamed its keys in version 5; files on the hub have the older names.
_HUGGING_FACE = {
    r"embeddings\.patch_embeddings\.projection\.(weight|bias)": r"patch_embedding.patch_embeddings.\1",
    r"(?:encoder\.layer|layers)\.(\d+)\.attention\.(?:attention\.)?(query|key|value|[qkv]_proj)\.(weight|bias)": (
        r"blocks.\1.attn.\2.\3"
    ),
    r"(?:encoder\.layer|layers)\.(\d+)\.attention\.(?:output\.dense|o_proj)\.(weight|bias)": (
        r"blocks.\1.attn.out_proj.\2"
    ),
    r"(?:encoder\.layer|layers)\.(\d+)\.(?:intermediate\.dense|mlp\.fc1)\.(weight|bias)": r"blocks.\1.mlp.linear1.\2",
    r"(?:encoder\.layer|layers)\.(\d+)\.(?:output\.dense|mlp\.fc2)\.(weight|bias)": r"blocks.\1.mlp.linear2.\2",
    r"(?:encoder\.layer|layers)\.(\d+)\.layernorm_before\.(weight|bias)": r"blocks.\1.norm1.\2",
    r"(?:encoder\.layer|layers)\.(\d+)\.layernorm_after\.(weight|bias)": r"blocks.\1.norm2.\2",
    r"layernorm\.(weight|bias)": r"norm.\1",
}


class PublicWeights(NamedTuple):
    """The format, the arguments of an encoder that fits, its state, and what its layer norms add to the variance."""

    format: str
    encoder: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    layer_norm_eps: float


def convert_public_weights(source: str, content: Mapping[str, Any], num_heads: int | None = None) -> PublicWeights:
    """
    Convert a file of public weights; the keys of heads and decoders are left out.

    The three colors of the first layer are summed: a gray image is the same in all three. A position of the class token
    is added to the token. Layer norms add 1e-6 (timm, MAE) or 1e-12 (Hugging Face) to the variance, where MONAI's add
    1e-5. That matters for tokens that vary little, such as an untrained class token: with MONAI's, features of randomly
    initialised networks differ by up to 0.6; with the format's own by less than 1e-5.

    Args:
        source: the file, for messages.
        content: what it holds.
        num_heads: attention heads, which weights do not tell; by default one for 64 of the width, as public ViTs have.

    Raises:
        InputError: if the file is of neither format.
    """
    weights = _unwrap(content)
    hugging_face = "embeddings.patch_embeddings.projection.weight" in weights
    if not hugging_face and "patch_embed.proj.weight" not in weights:
        raise InputError(
            f"{source} is neither a backbone.pt of ours nor a ViT of timm or Hugging Face; its keys begin with "
            f"{', '.join(map(str, list(content)[:3]))}"
        )
    state = _rename(weights, _HUGGING_FACE if hugging_face else _TIMM)
    if hugging_face:
        state = _join_query_key_value(state)
    _gray(state)
    positions = weights["embeddings.position_embeddings" if hugging_face else "pos_embed"]
    token = weights.get("embeddings.cls_token" if hugging_face else "cls_token")
    grid = _add_positions(source, state, positions, token)
    name, eps = ("huggingface", 1e-12) if hugging_face else ("timm", 1e-6)
    return PublicWeights(name, _arguments(state, grid, num_heads, token is not None), state, eps)


def _unwrap(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights themselves, without wrappers and prefixes."""
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    weights = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    for prefix in _PREFIXES:
        if any(key.startswith((prefix + "embeddings.", prefix + "patch_embed.")) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return weights


def _rename(weights: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The weights that have a name here, as copies in float32."""
    state = {}
    for key, value in weights.items():
        for pattern, replacement in names.items():
            match = re.fullmatch(pattern, key)
            if match:
                state[match.expand(replacement)] = value.detach().float().clone()
    return state


def _join_query_key_value(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One layer for query, key and value, in this order, where there were three."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    joined = {}
    for key, value in state.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn\.)(query|key|value|[qkv]_proj)\.(weight|bias)", key)
        if match:
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2][0]] = value
        else:
            joined[key] = value
    return joined | {name: torch.cat([part[letter] for letter in "qkv"]) for name, part in parts.items()}


def _gray(state: dict[str, torch.Tensor]) -> None:
    """Sum the colors of the first layer."""
    name = "patch_embedding.patch_embeddings.weight"
    state[name] = state[name].sum(dim=1, keepdim=True)


def _add_positions(
    source: str, state: dict[str, torch.Tensor], positions: torch.Tensor, token: torch.Tensor | None
) -> int:
    """Split positions into those of the patches and that of the class token; the side of the square grid."""
    positions = positions.detach().float()
    if token is not None:
        state["cls_token"] = token.detach().float() + positions[:, :1]
        positions = positions[:, 1:]
    side = math.isqrt(positions.shape[1])
    if side * side != positions.shape[1]:
        raise InputError(f"{source} has {positions.shape[1]} positions, no square of patches")
    state["patch_embedding.position_embeddings"] = positions.clone()
    return side


def _arguments(
    state: Mapping[str, torch.Tensor], grid: int, num_heads: int | None, class_token: bool
) -> dict[str, Any]:
    """Arguments of an encoder that has these weights; positions are learned ones, since their kind is not known."""
    hidden_size, _, *patch_size = state["patch_embedding.patch_embeddings.weight"].shape
    return {
        "in_channels": 1,
        "img_size": [grid * patch for patch in patch_size],
        "patch_size": patch_size,
        "hidden_size": hidden_size,
        "mlp_dim": state["blocks.0.mlp.linear1.weight"].shape[0],
        "num_layers": len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        "num_heads": num_heads or max(hidden_size // 64, 1),
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "pos_embed_type": "learnable",
        "spatial_dims": 2,
        "class_token": class_token,
    }
