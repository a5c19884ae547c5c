"""Start from pretrained weights: our `backbone.pt`, or ViT and MAE weights in the format of timm or Hugging Face."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch

from miram.errors import InputError
from miram.networks.classifier import Pool, ViTClassifier
from miram.networks.patches import POSITIONS, patch_grid, positions_on_grid
from miram.networks.segmenter import ViTSegmenter
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import load_backbone, load_weights_file
from miram.weights.public_weights import convert_public_weights

logger = logging.getLogger(__name__)

Mode = Literal["finetune", "linear_probe", "attentive_probe"]
Network = TypeVar("Network", ViTClassifier, ViTSegmenter)

# Arguments of a stock ViT that are fixed in our encoder.
_STOCK_ONLY = {"proj_type", "classification", "save_attn"}


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from, under our encoder's keys."""

    source: str  # the file
    format: str  # "miram", "timm" or "huggingface"; or "checkpoint", of a run of pretraining
    encoder: dict[str, Any]  # arguments of :class:`miram.networks.vit_encoder.ViTEncoder` that fit the weights
    state_dict: dict[str, torch.Tensor]  # the weights
    preprocessing: dict[str, Any] | None  # how pixels are turned into the encoder's input, if the file says so
    provenance: dict[str, Any]  # where the weights come from, if the file says so
    layer_norm_eps: float = 1e-5  # what the layer norms add to the variance


def read_pretrained(
    path: str | os.PathLike[str] | None, num_heads: int | None = None, option: str = "pretrained"
) -> Pretrained | None:
    """
    Read weights to start from.

    Args:
        path: a `backbone.pt` of a pretraining run; weights of timm or Hugging Face (`.pth`, `.pt`, `.bin` or
            `.safetensors`); or None or "none" for no pretraining.
        num_heads: attention heads of public weights, which do not contain this number; by default width / 64.
        option: the config's option with the path, for messages.

    Raises:
        InputError: if the file is missing or damaged, or its format is unknown.
    """
    if path is None or is_none(path):
        return None
    content = read_weights(path, option)
    if "network_def" in content:
        return _from_backbone(path)
    weights = convert_public_weights(str(path), content, num_heads)
    return Pretrained(str(path), weights.format, weights.encoder, weights.state_dict, None, {}, weights.layer_norm_eps)


def is_none(path: str | os.PathLike[str]) -> bool:
    """Whether a path of weights says that there are none: "none" or an empty text."""
    return str(path).strip().lower() in ("none", "")


def read_weights(path: str | os.PathLike[str], option: str = "pretrained") -> dict[str, Any]:
    """
    The content of a file of weights, of `torch.save` or safetensors, on the CPU.

    Raises:
        InputError: if the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no pretrained file {path}: run configs/pretrain.yaml first, give another file as --{option}, "
            f"or start from random weights with --{option} none"
        )
    if Path(path).suffix != ".safetensors":
        return load_weights_file(path)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(f"reading {path} needs the package safetensors: pip install safetensors") from error
    return load_file(path)


def encoder_arguments(
    pretrained: Pretrained | None,
    image_size: Sequence[int] | None,
    defaults: Mapping[str, Any],
    drop_path_rate: float = 0.0,
    activation_checkpointing: bool = False,
) -> dict[str, Any]:
    """
    The arguments of the encoder. Its sizes are those of the pretrained encoder, so users need not repeat them.

    Args:
        pretrained: what to start from.
        image_size: in pixels; None is the size of pretraining.
        defaults: arguments of :class:`miram.networks.vit_encoder.ViTEncoder` for a start from random weights; if their
            `img_size` is None, it is 224 along each axis.
        activation_checkpointing: recompute the blocks in the backward pass to save memory.

    Returns:
        plain values.
    """
    arguments = dict(defaults) if pretrained is None else dict(pretrained.encoder)
    if image_size is not None:
        arguments["img_size"] = list(image_size)
    if arguments["img_size"] is None:
        arguments["img_size"] = [224] * arguments["spatial_dims"]
    sizes = ", ".join(f"{name} {value}" for name, value in arguments.items())
    logger.info("encoder as %s: %s", "pretrained" if pretrained else "the config says", sizes)
    return {
        **arguments,
        "drop_path_rate": drop_path_rate,
        "activation_checkpointing": activation_checkpointing,
    }


def pretrained_classifier(
    encoder: Mapping[str, Any],
    num_classes: int,
    pretrained: Pretrained | None,
    pool: Pool = "token",
    mode: Mode = "finetune",
) -> ViTClassifier:
    """
    Build a classifier and load its initial weights.

    Args:
        mode: "finetune" trains everything; "linear_probe" a linear head on the frozen encoder; "attentive_probe"
            attentive pooling (`pool` is ignored) and a head on the frozen encoder.

    Raises:
        InputError: if the mode is unknown, or the weights do not fit.
    """
    if mode not in get_args(Mode):
        raise InputError(f"mode {mode!r} is not one of {', '.join(get_args(Mode))}")
    network = ViTClassifier(
        encoder,
        num_classes,
        pool="attention" if mode == "attentive_probe" else pool,
        layer_norm_eps=1e-5 if pretrained is None else pretrained.layer_norm_eps,
        head_std=2e-5 if mode == "finetune" else 0.01,
    )
    return _started(network, pretrained, frozen=mode != "finetune")


def pretrained_segmenter(
    encoder: Mapping[str, Any], pretrained: Pretrained | None, feature_size: int = 16, mode: str = "finetune"
) -> ViTSegmenter:
    """
    Build a segmentation network and load the initial weights of its encoder.

    Args:
        mode: "finetune" trains everything, "frozen" the decoder only.

    Raises:
        InputError: if the mode is unknown, the patches do not fit the decoder, or the weights do not fit.
    """
    if mode not in ("finetune", "frozen"):
        raise InputError(f"mode {mode!r} is not one of finetune, frozen")
    try:
        network = ViTSegmenter(
            encoder, 1, feature_size, layer_norm_eps=1e-5 if pretrained is None else pretrained.layer_norm_eps
        )
    except ValueError as error:
        raise InputError(f"the encoder cannot segment: {error}") from error
    return _started(network, pretrained, frozen=mode == "frozen")


def _started(network: Network, pretrained: Pretrained | None, frozen: bool) -> Network:
    if pretrained is None:
        logger.info("no pretraining: the encoder starts from random weights")
    else:
        load_encoder(network.encoder, pretrained)
    if frozen:
        network.freeze_encoder()
    return network


def load_encoder(encoder: ViTEncoder, pretrained: Pretrained) -> None:
    """Load pretrained weights into an encoder, changed in place; see :func:`fitting_state`."""
    encoder.load_state_dict(fitting_state(encoder, pretrained), strict=False)


def fitting_state(encoder: ViTEncoder, pretrained: Pretrained, option: str = "pretrained") -> dict[str, torch.Tensor]:
    """
    Pretrained weights of all of an encoder; how many keys fit and which are not used is logged.

    Positions are made for the encoder's own grid, where that of pretraining differs
    (:func:`miram.networks.patches.positions_on_grid`). Fixed ones may be absent: the encoder has computed its own.

    Args:
        encoder: it is not changed.

    Returns:
        the weights that the encoder has, with its shapes.

    Raises:
        InputError: if a key of the encoder has no weight of its shape, or the file has blocks that the encoder lacks;
            the message names them.
    """
    own = encoder.state_dict()
    given = dict(pretrained.state_dict)
    if POSITIONS in given:
        given[POSITIONS] = _positions_of_grid(encoder, pretrained)
    required = {key for key in own if not _is_unused(key)}
    absent = required & _may_be_absent(encoder) - given.keys()
    matched = {key: value for key, value in given.items() if key in own and value.shape == own[key].shape}
    foreign = {key for key in given.keys() - own.keys() if key.startswith("blocks.") and not _is_unused(key)}
    wrong = sorted(required - matched.keys() - absent) + sorted(foreign)
    if wrong:
        raise InputError(
            f"{pretrained.source} holds another encoder, or not all of it: {len(wrong)} of {len(required | foreign)} "
            f"keys do not fit: {_describe(wrong, own, given)}. Give the whole file of an encoder of the same sizes, or "
            f"--{option} none"
        )
    logger.info(
        "pretrained weights (%s format): %d of %d keys loaded from %s; not loaded: %s; unused: %s",
        pretrained.format,
        len(required & matched.keys()),
        len(required),
        pretrained.source,
        ", ".join(sorted(absent)) or "none",
        ", ".join(sorted(given.keys() - matched.keys())) or "none",
    )
    return matched


def _is_unused(key: str) -> bool:
    """Whether a key is of the norm that MONAI's blocks have and never use without cross attention."""
    return ".norm_cross_attn." in key


def _may_be_absent(encoder: ViTEncoder) -> set[str]:
    """Keys that a file need not have, since the encoder itself computes them."""
    return {POSITIONS} if encoder.network_def["pos_embed_type"] == "sincos" else set()


def compare_preprocessing(pretrained: Pretrained | None, preprocessing: Mapping[str, Any]) -> None:
    """Warn if the encoder was pretrained on pixels in another range than this run's; show both."""
    if pretrained is None:
        return
    if pretrained.preprocessing is None:
        logger.info(
            "%s does not say how its pixels were normalised; this run uses %s, close to the range of images with "
            "ImageNet normalisation",
            pretrained.source,
            dict(preprocessing),
        )
    elif dict(pretrained.preprocessing) != dict(preprocessing):
        logger.warning(
            "preprocessing differs: %s was trained with %s, this run uses %s. Set preprocessing as in pretraining",
            pretrained.source,
            pretrained.preprocessing,
            dict(preprocessing),
        )


def pretrained_field_of_view(pretrained: Pretrained) -> list[int] | None:
    """The pixels of a crop that an image showed in pretraining; None if the weights do not say."""
    facts = pretrained.provenance
    told = facts.get("field_of_view")
    if told or not facts.get("scales"):
        return list(told) if told else None
    return [round(n * max(1, *facts["scales"], 1)) for n in pretrained.encoder["img_size"]]


def compare_field_of_view(
    pretrained: Pretrained | None, field_of_view: Sequence[int], image_size: Sequence[int]
) -> None:
    """Warn if an image covers less of a crop than in pretraining, or its pixels have another size."""
    seen = None if pretrained is None else pretrained_field_of_view(pretrained)
    if pretrained is None or seen is None:
        return
    size = pretrained.encoder["img_size"]
    ratios = [[wide / n for wide, n in zip(*pair, strict=True)] for pair in ((seen, size), (field_of_view, image_size))]
    if ratios[0] != ratios[1]:
        logger.warning(
            "an image of %s pixels shows %s pixels of a crop; in pretraining %s showed %s. Set field_of_view so that "
            "pixels have the same size",
            list(image_size),
            list(field_of_view),
            list(size),
            list(seen),
        )
    elif any(now < before for now, before in zip(field_of_view, seen, strict=True)):
        logger.warning(
            "the network sees the middle %s pixels of a crop; in pretraining it saw %s. To see these again, with "
            'larger pixels, add --field_of_view "%s"',
            list(field_of_view),
            list(seen),
            list(seen),
        )


def _from_backbone(path: str | os.PathLike[str]) -> Pretrained:
    backbone = load_backbone(path)
    arguments = {key: value for key, value in backbone["network_def"].items() if key not in _STOCK_ONLY}
    token = backbone["cls_token"]
    state = backbone["state_dict"] if token is None else {**backbone["state_dict"], "cls_token": token}
    return Pretrained(
        str(path),
        "miram",
        {**arguments, "class_token": token is not None},
        state,
        backbone["preprocessing"],
        backbone["provenance"],
    )


def _positions_of_grid(encoder: ViTEncoder, pretrained: Pretrained) -> torch.Tensor:
    """The pretrained positions on the encoder's grid; unchanged if they cannot be converted to it."""
    own, given = encoder.get_parameter(POSITIONS), pretrained.state_dict[POSITIONS]
    grid = patch_grid(pretrained.encoder["img_size"], pretrained.encoder["patch_size"])
    if grid == encoder.grid or own.shape[2] != given.shape[2] or len(grid) != len(encoder.grid):
        return given
    kind = encoder.network_def["pos_embed_type"]
    logger.info("%s positions of %s patches become positions of %s", kind, list(grid), list(encoder.grid))
    return positions_on_grid(given, kind, grid, encoder.grid)


def _describe(keys: Sequence[str], own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str:
    """Some keys that do not fit, with their shapes."""

    def shape(key: str, state: Mapping[str, torch.Tensor]) -> str:
        return str(tuple(state[key].shape)) if key in state else "absent"

    shown = ", ".join(f"{key} ({shape(key, given)} in the file, {shape(key, own)} here)" for key in keys[:5])
    return shown + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
