"""The features of the tiles of a prepared folder's views, computed once and kept beside the data."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from miram.data.datalist import Item
from miram.errors import InputError
from miram.files import atomic_write, write_json
from miram.inference.tiles import TileEncoder
from miram.progress import progress_bar
from miram.readers.formats import read_image

logger = logging.getLogger(__name__)

FOLDER = ".features"


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
        return self.root / FOLDER / self.encoder.key

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
