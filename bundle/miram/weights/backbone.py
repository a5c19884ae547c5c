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
from miram.networks.patches import POSITIONS, patch_grid, positions_on_grid
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
        preprocessing: how pixels are turned into the encoder's input (what a user must do to new images).
        provenance: where the weights come from: versions, seed, epochs, data set.
        state_dict: the encoder's gathered state, if it is sharded over several processes.

    Returns:
        "network_def", the arguments of a stock `monai.networks.nets.ViT`; "state_dict", exactly its keys; "cls_token",
        (1, 1, D) or None, stored separately because a stock ViT without a classification head has none;
        "preprocessing"; "provenance".
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


def load_backbone(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a backbone file on the CPU. Nothing in the file is executed.

    Raises:
        InputError: if the file is missing, damaged or not a backbone.
    """
    backbone = load_weights_file(path)
    if not backbone.keys() >= _KEYS:
        raise InputError(
            f"{path} is not a backbone: it lacks {sorted(_KEYS - backbone.keys())}. "
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
    """Raise an InputError with the first part of a file's content that has another type."""
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
    Check that a file's weights are those of the network that it describes, without allocating the claimed memory.

    Args:
        make: builds the network; called on torch's meta device.
        network_def: the encoder's arguments.

    Raises:
        InputError: if the network cannot be built, its weights have other names or shapes, or the file is too small.
    """
    check_held(path, state.values())
    layers = network_def.get("num_layers", 0)
    if type(layers) is not int or layers > len(state):  # all would be built before shapes are compared
        raise InputError(f"{path} is damaged: it has {len(state)} weights, but claims {layers!r} layers")
    try:
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in make().state_dict().items()}
    except Exception as error:
        raise InputError(
            f"{path} describes a network that cannot be built ({type(error).__name__}: {error})"
        ) from error
    given = {key: value.shape for key, value in state.items() if isinstance(value, torch.Tensor)}
    wrong = sorted(map(str, {key for key in shapes.keys() | state.keys() if shapes.get(key) != given.get(key)}))
    if wrong:
        raise InputError(f"{path} is damaged: some weights do not fit the network that it describes, e.g. {wrong[0]}")


def check_held(path: str | os.PathLike[str], values: Iterable[Any]) -> None:
    """
    Check that a file is at least as large as the tensors that it claims to contain.

    A tensor can store one number and claim, by strides of 0, to repeat it billions of times.

    Raises:
        InputError: if the file is smaller.
    """
    claimed = sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))
    size = Path(path).stat().st_size
    if claimed > size:
        raise InputError(f"{path} is damaged: it claims {claimed} bytes of weights, but has {size}")


def save_weights_file(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, completely or not at all."""
    with atomic_write(path) as temporary:
        torch.save(dict(content), temporary)


def load_weights_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a dictionary written by `torch.save`, on the CPU, allowing only tensors and plain values.

    The file contains a checksum of each tensor, which torch itself does not check. We do, so that a flipped bit is
    noticed.

    Raises:
        InputError: if the file is missing, damaged, contains code, or is not a dictionary.
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
    except Exception as error:  # torch reports damage by many kinds of exceptions, and the user can fix all of them
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}): damaged, or not ours. "
            "Give a file that a run wrote (backbone.pt, checkpoint.pt, model.pt), or weights of timm or Hugging Face"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} contains a {type(content).__name__}, not a dictionary of weights")
    return content


def _damaged_part(path: str | os.PathLike[str]) -> str | None:
    """The first part of an archive whose checksum is wrong; None for an intact archive or another format."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        packed = [part.filename for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]
        if packed:  # torch does not compress; a few bytes could become gigabytes
            raise InputError(f"{path} was not written by torch.save: its part {packed[0]} is compressed")
        return archive.testzip()


def resize_backbone(backbone: Mapping[str, Any], img_size: Sequence[int]) -> dict[str, Any]:
    """
    Make a backbone for images of another size: only its positions change.

    Fixed (sincos) positions are computed for the new grid of patches, so that neighbours stay equally far apart;
    learned ones are interpolated (:func:`miram.networks.patches.positions_on_grid`).

    Args:
        img_size: in pixels, one per spatial dimension, each a multiple of its patch size.

    Returns:
        a backbone whose `network_def` and `state_dict` have that size.

    Raises:
        InputError: if the size does not fit the patches or the dimensions, or the positions do not fit the backbone's
            own size.
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
        num_classes: if given, the result is a classifier on the class token: trained encoder and class token, and a
            new linear head.

    Returns:
        `ViT(classification=False)`, or with `num_classes` `ViT(classification=True)` without a final activation.

    Raises:
        InputError: if the weights do not fit its `network_def`, or `num_classes` is given and the backbone was trained
            without a class token.
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
        raise InputError(f"the backbone's weights do not fit its network_def: {reason}") from error
    return network
