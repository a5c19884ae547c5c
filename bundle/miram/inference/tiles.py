"""
A whole view as tiles inside the breast, and the features of a frozen encoder for each of them.

Those of a prepared folder's views are computed once, and kept beside the data.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from miram.data.datalist import Item
from miram.engines.steps import in_precision
from miram.errors import InputError
from miram.files import atomic_write, write_json
from miram.inference.mammograms import whole_breast
from miram.inference.window_encoder import WindowEncoder, load_frozen_encoder, settings_key
from miram.inference.windows import WindowGrid, check_windows
from miram.progress import progress_bar
from miram.readers.formats import read_image

logger = logging.getLogger(__name__)

FOLDER = ".features"  # of a prepared folder

TilePool = Literal["token", "mean", "both"]


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
        grid = WindowGrid.of(breast.shape, size, overlap)
        return cls(grid, np.argwhere(grid.showing(breast)))

    def map(self, values: np.ndarray) -> np.ndarray:
        """Values (N,) at the tiles' centres, linearly interpolated to every pixel: (H, W); 0 where no tile is."""
        all_values = np.zeros((len(self.grid.rows.starts), len(self.grid.columns.starts)), np.float32)
        all_values[tuple(self.places.T)] = values
        return self.grid.interpolate(all_values)


@dataclass(eq=False, kw_only=True)
class TileEncoder(WindowEncoder):
    """
    A frozen encoder that describes each tile of a view.

    Raises:
        InputError: if the overlap or the pooling is not possible.
    """

    overlap: float = 0.5  # smallest share of a tile that the next one also covers
    pool: TilePool = "both"  # a tile's features: the class "token", the "mean" of the patches, or "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_windows(self.overlap, self.batch_size)
        if self.pool not in get_args(TilePool) or (self.pool != "mean" and self.encoder.cls_token is None):
            raise InputError(
                f"pool is {self.pool!r}; use one of {', '.join(get_args(TilePool))}, or only mean for an encoder "
                "without a class token"
            )

    @property
    def num_features(self) -> int:
        """The width of a tile's features."""
        return self.encoder.hidden_size * (2 if self.pool == "both" else 1)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the features of a view, as plain values."""
        return {**super().settings, "overlap": self.overlap, "pool": self.pool}

    def tiles(self, pixels: np.ndarray) -> Tiles:
        """The tiles of a view (H, W)."""
        return Tiles.of(pixels, self.field_of_view, self.overlap)

    @torch.no_grad()
    def features(self, pixels: np.ndarray, tiles: Tiles) -> np.ndarray:
        """The features (N, F) of a view's tiles, float16."""
        image = torch.from_numpy(pixels.astype(np.float32))[None]
        batches = tiles.grid.batches(image, tiles.places, self.batch_size)
        return np.concatenate([self._pooled(batch.to(self.device)).half().cpu().numpy() for batch in batches])

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
        backbone: see :func:`miram.inference.window_encoder.load_frozen_encoder`, also for `field_of_view` and
            `num_heads`.
        overlap: see :class:`TileEncoder`, also for `pool`, `batch_size` and `precision`.

    Raises:
        InputError: as there, and as for :class:`TileEncoder`.
    """
    frozen = load_frozen_encoder(backbone, device, field_of_view, num_heads)
    return TileEncoder(**frozen, overlap=overlap, pool=pool, batch_size=batch_size, precision=precision)


@dataclass(frozen=True)
class FeatureCache:
    """One file of features per view, in a folder that is named by the encoder and the tiling."""

    dataset_dir: str | os.PathLike[str]  # the prepared folder
    encoder: TileEncoder  # computes what is missing

    @property
    def root(self) -> Path:
        """The prepared folder, an absolute path as those of its images."""
        return Path(self.dataset_dir).resolve()

    @property
    def folder(self) -> Path:
        """Where this encoder's features are."""
        return self.root / FOLDER / settings_key(self.encoder.settings)

    def load(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """
        The features of views, after computing those that are missing; an interrupted run continues where it stopped.

        Args:
            items: of the data list, with absolute image paths.

        Returns:
            by image path, the features (N, F) of its tiles in float16. Views without a breast are left out, which is
            logged.

        Raises:
            InputError: if no view shows a breast.
        """
        paths = [str(item["image"]) for item in items]
        missing = [path for path in paths if self._stored(path) is None]
        logger.info("features of %d views: %d are in %s", len(paths), len(paths) - len(missing), self.folder)
        write_json(self.folder / "settings.json", self.encoder.settings)
        for path in progress_bar(len(missing), "features", unit="views", iterable=missing):
            self._compute(path)
        found = {path: values for path in paths if (values := self._stored(path)) is not None and len(values)}
        for path in paths:
            if path not in found:
                logger.warning("%s: no breast was found; the view is left out", path)
        if not found:
            raise InputError(f"none of the {len(paths)} views of {self.root} shows a breast")
        tiles = sum(map(len, found.values()))
        logger.info("%d tiles, %.0f MB", tiles, sum(values.nbytes for values in found.values()) / 1e6)
        return {path: torch.from_numpy(values) for path, values in found.items()}

    def _compute(self, path: str) -> None:
        pixels = read_image(path).pixels
        try:
            values = self.encoder.features(pixels, self.encoder.tiles(pixels))
        except InputError:  # no breast: remembered, so that it is not looked for again
            values = np.zeros((0, self.encoder.num_features), np.float16)
        with atomic_write(self._file(path)) as temporary:
            np.savez(temporary, features=values, image=_state(path))

    def _stored(self, path: str) -> np.ndarray | None:
        """The features of an image, unless they are missing, damaged or of an earlier image of that name."""
        try:
            with np.load(self._file(path)) as content:
                same = np.array_equal(content["image"], _state(path))
                return content["features"] if same else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _file(self, path: str) -> Path:
        return self.folder / f"{Path(path).relative_to(self.root).with_suffix('').as_posix()}.npz"


def _state(path: str) -> list[int]:
    """What changes if the image is written again."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]
