"""A whole view as tiles inside the breast, and the features of a frozen encoder for each of them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.inference.mammograms import NO_BREAST, whole_breast
from miram.inference.windows import WindowGrid, check_windows, window_to_input
from miram.networks.classifier import ViTClassifier
from miram.weights.pretrained import (
    encoder_arguments,
    pretrained_classifier,
    pretrained_field_of_view,
    read_pretrained,
)

logger = logging.getLogger(__name__)

TilePool = Literal["token", "mean", "both"]


def settings_key(settings: Mapping[str, Any]) -> str:
    """A short digest of plain values, for the name of a folder."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tiles:
    """Windows of a view that show the breast."""

    grid: WindowGrid  # all windows of the view
    places: np.ndarray  # (N, 2) the tiles' indices along both axes of the grid

    @classmethod
    def of(cls, pixels: np.ndarray, size: Sequence[int], overlap: float) -> Tiles:
        """
        The windows whose centre is the nearest one to some pixel of the breast.

        Args:
            pixels: (H, W), high = bright.
            overlap: smallest share of a window that the next one also covers.

        Raises:
            InputError: if no breast is found.
        """
        breast = whole_breast(pixels)
        if not breast.any():
            raise InputError(NO_BREAST)
        grid = WindowGrid.of(breast.shape, size, overlap)
        return cls(grid, np.argwhere(grid.showing(breast)))

    def map(self, values: np.ndarray) -> np.ndarray:
        """Values (N,) at the tiles' centres, linearly interpolated to every pixel: (H, W); 0 where no tile is."""
        all_values = np.zeros((len(self.grid.rows.starts), len(self.grid.columns.starts)), np.float32)
        all_values[tuple(self.places.T)] = values
        return self.grid.interpolate(all_values)


@dataclass(eq=False)
class TileEncoder:
    """
    A frozen encoder that describes each tile of a view.

    Raises:
        InputError: if the overlap or the pooling is not possible.
    """

    network: ViTClassifier  # holds the encoder; its head is not used
    preprocessing: Mapping[str, Any]  # "a_min" and "a_max", stored values, become "b_min" and "b_max"
    field_of_view: Sequence[int]  # size of a tile, in pixels of the view
    overlap: float = 0.5  # smallest share of a tile that the next one also covers
    pool: TilePool = "both"  # a tile's features: the class "token", the "mean" of the patches, or "both"
    batch_size: int = 64  # tiles at once; memory grows with it
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else decides the features: the digest of the weights
    precision: str = "float32"  # in which the encoder computes, see `engines.steps.autocast`; its output is float32

    def __post_init__(self) -> None:
        check_windows(self.overlap, self.batch_size)
        self.encoder = self.network.eval().encoder
        if self.pool not in get_args(TilePool) or (self.pool != "mean" and self.encoder.cls_token is None):
            raise InputError(
                f"pool is {self.pool!r}; use one of {', '.join(get_args(TilePool))}, or only mean for an encoder "
                "without a class token"
            )
        self.preprocessing = {name: float(self.preprocessing[name]) for name in ("a_min", "a_max", "b_min", "b_max")}
        self.field_of_view = [int(length) for length in self.field_of_view]
        self.to_input = window_to_input({**self.preprocessing, "image_size": self.encoder.img_size})

    @property
    def num_features(self) -> int:
        """The width of a tile's features."""
        return self.encoder.hidden_size * (2 if self.pool == "both" else 1)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the features of a view, as plain values."""
        return {
            "field_of_view": self.field_of_view,
            "overlap": self.overlap,
            "pool": self.pool,
            "preprocessing": self.preprocessing,
            "precision": self.precision,
            **self.facts,
        }

    @property
    def key(self) -> str:
        """A name for the features of one encoder and tiling."""
        return settings_key(self.settings)

    def tiles(self, pixels: np.ndarray) -> Tiles:
        """The tiles of a view (H, W)."""
        return Tiles.of(pixels, self.field_of_view, self.overlap)

    @torch.no_grad()
    def features(self, pixels: np.ndarray, tiles: Tiles) -> np.ndarray:
        """The features (N, F) of a view's tiles, float16."""
        device = next(self.encoder.parameters()).device
        image = torch.from_numpy(pixels.astype(np.float32))[None]
        batches = tiles.grid.batches(image, tiles.places, self.batch_size)
        return np.concatenate([self._pooled(batch.to(device)).half().cpu().numpy() for batch in batches])

    def tokens(self, windows: torch.Tensor) -> torch.Tensor:
        """The encoder's tokens (B, [1 +] N, D), float32, of windows (B, 1, h, w), 0..65535."""
        return in_precision(self.encoder, self.precision)(self.to_input(windows))

    def _pooled(self, windows: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(windows)
        patches = tokens if self.encoder.cls_token is None else tokens[:, 1:]
        parts = {"token": [tokens[:, 0]], "mean": [patches.mean(dim=1)]}
        return torch.cat(parts.get(self.pool) or [*parts["token"], *parts["mean"]], dim=1)


def load_tile_encoder(
    backbone: str | os.PathLike[str],
    device: torch.device | str,
    field_of_view: Sequence[int] | None = None,
    overlap: float = 0.5,
    pool: TilePool = "both",
    batch_size: int = 64,
    num_heads: int | None = None,
    precision: str = "float32",
) -> TileEncoder:
    """
    Load a pretrained encoder for tiles.

    Args:
        backbone: the `backbone.pt` of a pretraining run, or public weights (docs/backbone.md).
        field_of_view: size of a tile in pixels of the prepared view; None is that of pretraining.
        overlap: see :class:`TileEncoder`, also for `pool`, `batch_size` and `precision`.
        num_heads: of public weights that do not contain it.

    Raises:
        InputError: if the file is missing, damaged or not one of images, or does not say its field of view.
    """
    network, limits, size, facts = load_frozen_encoder(backbone, device, field_of_view, num_heads)
    return TileEncoder(network, limits, size, overlap, pool, batch_size, facts, precision)


def load_frozen_encoder(
    backbone: str | os.PathLike[str],
    device: torch.device | str,
    field_of_view: Sequence[int] | None = None,
    num_heads: int | None = None,
) -> tuple[ViTClassifier, Mapping[str, Any], Sequence[int], dict[str, Any]]:
    """
    Load a pretrained encoder of images for windows of whole views; arguments as for :func:`load_tile_encoder`.

    Returns:
        a network with the encoder, its preprocessing, the size of a window, and the facts {"weights": digest}.

    Raises:
        InputError: as for :func:`load_tile_encoder`.
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
    limits = pretrained.preprocessing or {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
    digest = hashlib.sha256(Path(backbone).read_bytes()).hexdigest()
    return network.to(device), limits, size, {"weights": digest}
