"""A frozen encoder that sees windows of whole views: what the encoders of tiles and of token maps share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch

from miram.errors import InputError
from miram.files import file_sha256
from miram.inference.windows import window_to_input
from miram.networks.classifier import ViTClassifier
from miram.weights.pretrained import (
    encoder_arguments,
    pretrained_classifier,
    pretrained_field_of_view,
    read_pretrained,
)


@dataclass(eq=False, kw_only=True)
class WindowEncoder:
    """A frozen encoder, and the windows that it sees."""

    network: ViTClassifier  # holds the encoder; its head is not used
    preprocessing: Mapping[str, Any]  # "a_min" and "a_max", stored values, become "b_min" and "b_max"
    field_of_view: Sequence[int]  # size of a window, in pixels of the view
    batch_size: int = 64  # windows at once; memory grows with it
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else decides the output: the digest of the weights
    precision: str = "float32"  # in which the encoder computes, see `engines.steps.autocast`

    def __post_init__(self) -> None:
        self.encoder = self.network.eval().encoder
        self.preprocessing = {name: float(self.preprocessing[name]) for name in ("a_min", "a_max", "b_min", "b_max")}
        self.field_of_view = [int(length) for length in self.field_of_view]
        self.to_input = window_to_input({**self.preprocessing, "image_size": self.encoder.img_size})

    @classmethod
    def restored(
        cls, path: str | os.PathLike[str], network: ViTClassifier, settings: Mapping[str, Any], **how: Any
    ) -> Self:
        """
        The encoder that a model was trained with.

        Args:
            path: of the model's file.
            settings: what it holds of :attr:`settings`.
            how: `batch_size` and `precision`, whatever those of training were.

        Raises:
            InputError: if the settings are not complete.
        """
        names = {one.name for one in fields(cls)} - {"network", "batch_size", "facts", "precision"}
        if not settings.keys() >= names:
            raise InputError(f"{path} is damaged: the settings of its encoder are not complete")
        facts = {name: value for name, value in settings.items() if name not in {*names, "precision"}}
        return cls(network=network, **{name: settings[name] for name in names}, facts=facts, **how)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the output, as plain values."""
        return {
            "field_of_view": self.field_of_view,
            "preprocessing": self.preprocessing,
            "precision": self.precision,
            **self.facts,
        }

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.encoder.parameters()).device


def load_frozen_encoder(
    backbone: str | os.PathLike[str],
    device: torch.device | str,
    field_of_view: Sequence[int] | None = None,
    num_heads: int | None = None,
) -> dict[str, Any]:
    """
    Load a pretrained encoder of images for windows of whole views.

    Args:
        backbone: the `backbone.pt` of a pretraining run, or public weights (docs/backbone.md).
        field_of_view: size of a window in pixels of the prepared view; None is that of pretraining.
        num_heads: of public weights that do not contain it.

    Returns:
        `network`, `preprocessing`, `field_of_view` and `facts` of a :class:`WindowEncoder`.

    Raises:
        InputError: if the file is missing, damaged or not one of images, or does not say its field of view.
    """
    pretrained = read_pretrained(backbone, num_heads)
    if pretrained is None:
        raise InputError("give --backbone: the backbone.pt of a pretraining run, or weights of timm or Hugging Face")
    arguments = encoder_arguments(pretrained, None, {})
    size = field_of_view or pretrained_field_of_view(pretrained) or arguments["img_size"]
    if len(size) != 2 or len(arguments["img_size"]) != 2:
        raise InputError(
            f"views are 2D, but {backbone} is an encoder of volumes, or field_of_view {size} is not two numbers"
        )
    network = pretrained_classifier(arguments, 1, pretrained, "mean", "linear_probe")
    return {
        "network": network.to(device),
        "preprocessing": pretrained.preprocessing or {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0},
        "field_of_view": size,
        "facts": {"weights": file_sha256(backbone)},
    }


def settings_key(settings: Mapping[str, Any]) -> str:
    """A short digest of plain values, for the name of a folder."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
