"""The pretrained encoder as a file that any MONAI project loads, with or without this package."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import ViT
from torch import nn

from miram.errors import InputError
from miram.files import atomic_write
from miram.networks.patches import patch_grid
from miram.networks.positions import POSITIONS, positions_on_grid
from miram.networks.vit_encoder import ViTEncoder

_KEYS = {"network_def", "state_dict", "cls_token", "preprocessing", "provenance"}


def backbone_from_encoder(
    encoder: ViTEncoder,
    preprocessing: Mapping[str, Any],
    provenance: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """
    Describe a trained encoder in plain values.

    Args:
        encoder: the trained encoder.
        preprocessing: how pixels became the encoder's input (what a user must do to new images).
        provenance: where the weights come from: versions, seed, epochs, data set.
        state_dict: of the encoder, gathered, where several processes hold shares of it.

    Returns:
        "network_def", the arguments of a stock `monai.networks.nets.ViT`; "state_dict", exactly its keys; "cls_token",
        (1, 1, D) or None, kept apart since a stock ViT without a classification head has none; "preprocessing";
        "provenance".
    """
    state_dict = encoder.state_dict() if state_dict is None else state_dict
    state = {key: value.detach().cpu().clone() for key, value in state_dict.items()}
    return {
        "network_def": dict(encoder.network_def),
        "cls_token": state.pop("cls_token", None),
        "state_dict": state,
        "preprocessing": dict(preprocessing),
        "provenance": dict(provenance),
    }


def save_backbone(path: str | os.PathLike[str], backbone: Mapping[str, Any]) -> None:
    """Write a backbone, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(dict(backbone), temporary)


def load_backbone(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a backbone file on the CPU. Nothing in the file is executed.

    Raises:
        InputError: if the file is missing, damaged or no backbone.
    """
    backbone = load_weights_file(path)
    if not backbone.keys() >= _KEYS:
        raise InputError(
            f"{path} is no backbone: it lacks {sorted(_KEYS - backbone.keys())}. "
            "Give the backbone.pt of a pretraining run."
        )
    check_kinds(path, backbone, {"network_def": dict, "state_dict": dict, "preprocessing": dict, "provenance": dict})
    token, network_def = backbone["cls_token"], backbone["network_def"]
    if not (token is None or isinstance(token, torch.Tensor)):
        raise InputError(f"{path} is damaged: its cls_token is a {type(token).__name__}, not a tensor")
    check_held(path, [token])
    check_fits(path, lambda: ViT(**network_def), network_def, backbone["state_dict"])
    return backbone


def check_kinds(path: str | os.PathLike[str], content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """
    Check the kinds of a file's parts.

    Raises:
        InputError: naming the first that is of another kind.
    """
    for key, kind in kinds.items():
        if not isinstance(content[key], kind):
            raise InputError(f"{path} is damaged: its {key} is a {type(content[key]).__name__}, not a {kind.__name__}")


def check_fits(
    path: str | os.PathLike[str],
    make: Callable[[], nn.Module],
    network_def: Mapping[str, Any],
    state: Mapping[str, Any],
) -> None:
    """
    Check that a file's weights are those of the network that it describes, taking no memory for what it claims.

    Args:
        path: named in errors.
        make: builds the network; called on torch's meta device.
        network_def: the encoder's arguments.
        state: the weights.

    Raises:
        InputError: if no network can be built, its weights have other names or shapes, or the file is too small for it.
    """
    check_held(path, state.values())
    layers = network_def.get("num_layers", 0)
    if type(layers) is not int or layers > len(state):  # each would be built, before shapes are compared
        raise InputError(f"{path} is damaged: it has {len(state)} weights, and claims {layers!r} layers")
    try:
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in make().state_dict().items()}
    except Exception as error:
        raise InputError(f"{path} describes no network that can be built ({type(error).__name__}: {error})") from error
    given = {key: value.shape for key, value in state.items() if isinstance(value, torch.Tensor)}
    wrong = sorted(map(str, {key for key in shapes.keys() | state.keys() if shapes.get(key) != given.get(key)}))
    if wrong:
        raise InputError(f"{path} is damaged: its weights are not of the network that it describes, such as {wrong[0]}")


def check_held(path: str | os.PathLike[str], values: Iterable[Any]) -> None:
    """
    Check that a file is as large as the tensors that came out of it: one number can be claimed to stand everywhere.

    Raises:
        InputError: if it is smaller.
    """
    claimed = sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))
    size = Path(path).stat().st_size
    if claimed > size:
        raise InputError(f"{path} is damaged: it claims {claimed} bytes of weights, and has {size}")


def load_weights_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a dictionary that `torch.save` wrote, on the CPU, allowing tensors and plain values only.

    The file holds a checksum of each tensor, which torch itself does not look at: here they must be right, so that a
    flipped bit is no other network.

    Raises:
        InputError: if the file is missing, damaged, holds code, or is no dictionary.
    """
    try:
        damaged = _damaged_part(path)
        if damaged is not None:
            raise InputError(f"{path} is damaged: the checksum of its part {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except Exception as error:  # torch reports damage by many kinds of exception, all of them the user's to mend
        raise InputError(f"{path} cannot be read as weights ({type(error).__name__}): damaged, or not ours") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _damaged_part(path: str | os.PathLike[str]) -> str | None:
    """The first part of an archive whose checksum is wrong; None of one that is whole, or of another format."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        packed = [part.filename for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]
        if packed:  # torch writes none; a few bytes could become gigabytes
            raise InputError(f"{path} is no file of torch.save: its part {packed[0]} is compressed")
        return archive.testzip()


def resize_backbone(backbone: Mapping[str, Any], img_size: Sequence[int]) -> dict[str, Any]:
    """
    Make a backbone for images of another size: only its positions change.

    Fixed (sincos) positions are computed for the new grid of patches, so that neighbours stay as far apart;
    learned ones are interpolated (:func:`miram.networks.positions.positions_on_grid`).

    Args:
        backbone: what :func:`load_backbone` gives; it is left as it is.
        img_size: in pixels, one per spatial dimension, each a multiple of its patch size.

    Returns:
        a backbone whose `network_def` and `state_dict` are of that size.

    Raises:
        InputError: if the size does not fit the patches or the dimensions, or the positions are not those of the
            backbone's own size.
    """
    definition, state = backbone["network_def"], dict(backbone["state_dict"])
    try:
        grid = patch_grid(definition["img_size"], definition["patch_size"])
        new_grid = patch_grid(img_size, definition["patch_size"])
        state[POSITIONS] = positions_on_grid(state[POSITIONS], definition["pos_embed_type"], grid, new_grid)
    except (KeyError, ValueError) as error:
        raise InputError(f"this backbone cannot take images of {list(img_size)} pixels: {error}") from error
    return {**backbone, "network_def": {**definition, "img_size": list(img_size)}, "state_dict": state}


def vit_from_backbone(backbone: Mapping[str, Any], num_classes: int | None = None) -> ViT:
    """
    Build a stock MONAI ViT with the trained weights.

    Args:
        backbone: what :func:`load_backbone` gives.
        num_classes: with a number, a classifier on the class token: trained encoder and class token, a new linear head.

    Returns:
        `ViT(classification=False)`, or with `num_classes` `ViT(classification=True)` without a final activation.

    Raises:
        InputError: if the weights are not those of its `network_def`, or a classifier is wanted of a backbone that was
            trained without a class token.
    """
    if num_classes is None:
        return _load(ViT(**backbone["network_def"]), backbone["state_dict"])
    if backbone["cls_token"] is None:
        raise InputError("this backbone was trained without a class token: pool the patch tokens instead")
    arguments = {**backbone["network_def"], "classification": True, "num_classes": num_classes, "post_activation": ""}
    network = ViT(**arguments)
    head = {key: value for key, value in network.state_dict().items() if key.startswith("classification_head.")}
    return _load(network, {**backbone["state_dict"], **head, "cls_token": backbone["cls_token"]})


def _load(network: ViT, state: Mapping[str, torch.Tensor]) -> ViT:
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the backbone's weights are not those of its network_def: {reason}") from error
    return network
