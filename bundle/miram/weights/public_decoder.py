"""Convert the decoder of a public masked autoencoder to the keys of our decoder at 1x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from miram.weights.public_weights import (
    HUGGING_FACE,
    HUGGING_FACE_5,
    TIMM,
    join_query_key_value,
    rename_layers,
    unwrap,
)

DECODER_POSITIONS = "position_embeddings"
_ENDS = {"decoder_embed": "embedding", "decoder_norm": "norm", "decoder_pred": "head"}


def _blocks(names: Mapping[str, str], theirs: str, in_decoder: str) -> dict[str, str]:
    """The names of an encoder's blocks, as the decoder of the same library has them."""
    return {name.replace(theirs, in_decoder, 1): ours for name, ours in names.items() if name.startswith(theirs)}


# MAE's authors call the layers of a block as timm does; transformers 5 writes "decoder_encoder" where files on the hub
# have "decoder_layers".
_MAE = {**_ENDS, **_blocks(TIMM, "blocks.", "decoder_blocks.")}
_HUGGING_FACE = {
    **_ENDS,
    **_blocks(HUGGING_FACE, "encoder.layer.", "decoder_layers."),
    **_blocks(HUGGING_FACE, "encoder.layer.", "decoder_encoder.layer."),
    **_blocks(HUGGING_FACE_5, "layers.", "decoder_layers."),
}


def convert_public_decoder(source: str, content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """
    The decoder of MAE (arXiv 2111.06377), in a file of its authors or of Hugging Face's `ViTMAEForPreTraining`.

    A pixel's prediction is the mean of those of its three colors, since a gray image is the same in all three.

    Returns:
        weights under the keys of :class:`miram.networks.decoders.scale_decoder.ScaleDecoder`; positions (1, N, D)
        without that of the class token. Empty if the file has no decoder.

    Raises:
        InputError: if a query, key or value is missing.
    """
    weights = unwrap(content)
    hugging_face = "decoder.decoder_embed.weight" in weights
    weights = {key.removeprefix("decoder.").removeprefix("module."): value for key, value in weights.items()}
    if not {"decoder_embed.weight", "decoder_pred.weight", "mask_token", "decoder_pos_embed"} <= weights.keys():
        return {}
    state = {
        key: value.detach().float().clone()
        for key, value in rename_layers(weights, _HUGGING_FACE if hugging_face else _MAE).items()
    }
    if hugging_face:
        state = join_query_key_value(source, state)
    state |= {key: _gray(value) for key, value in state.items() if key.startswith("head.")}
    prefix = "cls_token" in weights or "vit.embeddings.cls_token" in weights
    positions = weights["decoder_pos_embed"].detach().float()[:, int(prefix) :].clone()
    return {**state, "mask_token": weights["mask_token"].detach().float().clone(), DECODER_POSITIONS: positions}


def _gray(value: torch.Tensor) -> torch.Tensor:
    """The mean over colors, the fastest axis of a patch's P x 3 predictions: (P * 3, ...) to (P, ...)."""
    return value.unflatten(0, (-1, 3)).mean(dim=1)
