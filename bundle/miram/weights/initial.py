"""Start a pretraining from weights: our files, or a ViT or MAE of timm or Hugging Face, with its decoder at 1x."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from miram.errors import InputError
from miram.networks.decoders.base import Decoder
from miram.networks.patches import POSITIONS, resize_position_embeddings
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.pretrained import (
    Pretrained,
    compare_preprocessing,
    fitting_state,
    is_none,
    read_pretrained,
    read_weights,
)
from miram.weights.public_decoder import DECODER_POSITIONS, convert_public_decoder
from miram.weights.public_weights import arguments_of

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

# Arguments of an encoder that decide what its weights mean, all of them options of configs/pretrain.yaml.
_COMPARED = (
    *("patch_size", "in_channels", "spatial_dims", "pos_embed_type"),
    *("hidden_size", "mlp_dim", "num_layers", "num_heads", "class_token"),
)


class InitialWeights(NamedTuple):
    """What a pretraining starts from."""

    state_dict: State  # weights under the keys of the whole network; what is missing keeps its random weights
    # for the provenance: the file, its format, the scales whose decoders start from it, whether the texture head does,
    # and the file's own provenance
    facts: dict[str, Any]


class _Given(NamedTuple):
    """What a file holds: an encoder, decoders by scale, and the head that predicts texture, or nothing."""

    encoder: Pretrained
    decoders: dict[float, State]
    texture_head: State


def initial_weights(
    network: nn.Module, path: str | os.PathLike[str] | None, preprocessing: Mapping[str, Any]
) -> InitialWeights | None:
    """
    Read the weights from which a pretraining starts; what fits and what does not is logged.

    The encoder must fit as a whole, except for its positions: those of another grid are computed (fixed ones) or
    interpolated (learned ones). A decoder is taken if the file has one of its scale and all of its weights fit, and the
    head that predicts texture likewise; public masked autoencoders have a decoder at 1x. Layer norms add 1e-5 to the
    variance, as MONAI's do, where public weights were trained with less; further training makes up for it.

    Args:
        network: :class:`miram.networks.miram.MIRAM`, or another network with an `encoder`; it is not changed.
        path: a `backbone.pt`; a `checkpoint.pt` of a run, with its decoders and texture head; a ViT of timm or Hugging
            Face; an MAE of its authors or Hugging Face. None or "none" starts from random weights.
        preprocessing: how this run's pixels become input; if the file has another, that is a warning.

    Raises:
        InputError: if the file is missing or damaged, or holds another encoder; the message says which options fit it.
    """
    if path is None or is_none(path):
        return None
    encoder = cast(ViTEncoder, network.encoder)
    given, decoders, texture_head = _read(path, encoder)
    _check_encoder(given, encoder)
    compare_preprocessing(given, preprocessing)
    state = {f"encoder.{key}": value for key, value in fitting_state(encoder, given, "init").items()}
    taken = []
    for index, decoder in enumerate(cast(list[Decoder], getattr(network, "decoders", []))):
        on_grid = _on_grid(decoder, decoders.get(decoder.scale, {}))
        fitting = _fitting(decoder, on_grid, f"the decoder at {decoder.scale:g}x", given.source)
        state |= {f"decoders.{index}.{key}": value for key, value in fitting.items()}
        taken += [decoder.scale] * bool(fitting)
    head = getattr(network, "texture_head", None)
    fitting = {} if head is None else _fitting(head, texture_head, "the head that predicts texture", given.source)
    state |= {f"texture_head.{key}": value for key, value in fitting.items()}
    facts = {"file": given.source, "format": given.format, "decoders": taken, "texture_head": bool(fitting)}
    return InitialWeights(state, {**facts, "provenance": dict(given.provenance)})


def lineage(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The provenance of weights, then of the weights that their pretraining began with, and so on."""
    while True:
        yield provenance
        begun = (provenance.get("initial_weights") or {}).get("provenance")
        if not begun:
            return
        provenance = begun


def _read(path: str | os.PathLike[str], encoder: ViTEncoder) -> _Given:
    content = read_weights(path, "init")
    if {"network", "optimizer", "iteration"} <= content.keys():
        return _of_checkpoint(path, content, encoder)
    heads = None if "network_def" in content else encoder.network_def["num_heads"]
    given = cast(Pretrained, read_pretrained(path, heads, "init"))
    public = {} if given.format == "miram" else convert_public_decoder(str(path), content)
    usual = max(given.encoder["hidden_size"] // 64, 1)
    if heads is not None and heads != usual:
        logger.warning(
            "%s does not say how many heads it was trained with; this run has %d, public ViTs of its width mostly %d",
            path,
            heads,
            usual,
        )
    return _Given(given, {1: public} if public else {}, {})


def _of_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any], encoder: ViTEncoder) -> _Given:
    """A run's checkpoint does not hold its encoder's arguments: they follow from the weights, or are this run's."""
    network, provenance = content["network"], content.get("provenance") or {}
    state = _below(network, "encoder.")
    if "patch_embedding.patch_embeddings.weight" not in state or POSITIONS not in state:
        raise InputError(f"{path} is the checkpoint of another kind of run; give that of a pretraining as --init")
    own = encoder.network_def
    count = state[POSITIONS].shape[1]
    if own["pos_embed_type"] == "sincos" and count != encoder.num_tokens:
        del state[POSITIONS]  # this run's own are right
    side = round(count ** (1 / encoder.spatial_dims))
    grid = encoder.grid if count == math.prod(encoder.grid) else [side] * encoder.spatial_dims
    arguments = arguments_of(str(path), state, list(grid), own["num_heads"]) | {"pos_embed_type": own["pos_embed_type"]}
    given = Pretrained(str(path), "checkpoint", arguments, state, None, provenance)
    scales = provenance.get("scales") or []
    decoders = {scale: _below(network, f"decoders.{index}.") for index, scale in enumerate(scales)}
    return _Given(given, decoders, _below(network, "texture_head."))


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _check_encoder(given: Pretrained, encoder: ViTEncoder) -> None:
    """Raise an InputError that names the options in which the file's encoder differs from the config's."""
    own = {**encoder.network_def, "class_token": encoder.cls_token is not None}
    different = [name for name in _COMPARED if _plain(given.encoder[name]) != _plain(own[name])]
    if different:
        told = ", ".join(f"{name} is {_plain(given.encoder[name])}, here {_plain(own[name])}" for name in different)
        options = " ".join(f'--{name} "{_plain(given.encoder[name])}"' for name in different)
        raise InputError(
            f"{given.source} holds another encoder than this config has: {told}. Add {options}, or give another --init"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _fitting(part: nn.Module, given: State, name: str, source: str) -> State:
    """The weights of a part of the network if all of them fit; else none, and the log says why."""
    own = _shapes(part.state_dict())
    wrong = sorted(key for key in own.keys() | given.keys() if key not in given or own.get(key) != given[key].shape)
    if not given:
        logger.info("%s starts from random weights: %s has none", name, source)
    elif wrong:
        shapes = [tuple(state[wrong[0]]) if wrong[0] in state else "absent" for state in (_shapes(given), own)]
        logger.warning(
            "%s starts from random weights: %d of its %d weights do not fit those of %s, such as %s (%s in the file, "
            "%s here)",
            name,
            len(wrong),
            len(own),
            source,
            wrong[0],
            *shapes,
        )
    else:
        logger.info("%s starts from %s: all of its %d weights fit", name, source, len(own))
        return given
    return {}


def _shapes(state: State) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}


def _on_grid(decoder: Decoder, given: State) -> State:
    """With positions of the decoder's own grid: from a square grid they are interpolated."""
    positions, own = given.get(DECODER_POSITIONS), decoder.position_embeddings
    if positions is None or positions.shape == own.shape or positions.shape[2] != own.shape[2]:
        return given
    dims = len(decoder.token_grid)
    side = round(positions.shape[1] ** (1 / dims))
    if side**dims != positions.shape[1]:
        return given
    return {**given, DECODER_POSITIONS: resize_position_embeddings(positions, [side] * dims, decoder.token_grid)}
