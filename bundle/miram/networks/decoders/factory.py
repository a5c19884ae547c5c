"""Choose a kind of decoder by its name in a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from miram.errors import InputError
from miram.networks.decoders.base import Decoder
from miram.networks.decoders.cross_attention_decoder import CrossAttentionDecoder
from miram.networks.decoders.scale_decoder import ScaleDecoder, SubPixelDecoder
from miram.networks.vit_encoder import ViTEncoder

KINDS: dict[str, type[Decoder]] = {
    "self_attention": ScaleDecoder,
    "cross_attention": CrossAttentionDecoder,
    "sub_pixel": SubPixelDecoder,
}


def scales_of(decoders: Sequence[Mapping[str, Any]]) -> list[float]:
    """The scales of the decoders in a config, in the same order."""
    return [decoder["scale"] for decoder in decoders]


def make_decoder(
    encoder: ViTEncoder, kind: str = "self_attention", extra_outputs: int = 0, **arguments: Any
) -> Decoder:
    """
    Make a decoder.

    Args:
        extra_outputs: numbers that are predicted for each patch behind its pixels; 0 is not passed on, so that your own
            kinds of decoders need no such argument.
        arguments: those of that kind: scale, hidden_size, ...

    Raises:
        InputError: if the kind is unknown.
        ValueError: if the kind does not have such an argument, or an argument is invalid.
    """
    if kind not in KINDS:
        raise InputError(f"decoders: kind should be one of {', '.join(KINDS)}, got {kind!r}")
    if extra_outputs:
        arguments["extra_outputs"] = extra_outputs
    known = [name for name in inspect.signature(KINDS[kind]).parameters if name != "encoder"]
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(f"a {kind} decoder has no argument {', '.join(unknown)}; it has: {', '.join(known)}.")
    return KINDS[kind](encoder, **arguments)
