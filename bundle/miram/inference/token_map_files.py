"""The token maps of a prepared folder's views, computed once and kept beside the data; and the samples made of them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miram.data.datalist import load_split
from miram.errors import InputError
from miram.files import atomic_write
from miram.inference.tiles import FOLDER
from miram.inference.token_maps import TokenMapEncoder
from miram.inference.views import View, ViewRecords, find_views
from miram.inference.window_encoder import settings_key
from miram.prepare.records import source_digest
from miram.progress import progress_bar
from miram.readers.formats import read_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MappedView:
    """A view whose map is known."""

    view: View
    map: Path  # the file
    shape: tuple[int, int]  # (H, W) of the view, in pixels
    spacing: Sequence[float | None]  # mm per row and column; None if the file does not say
    boxes: np.ndarray  # (M, 4) of its lesions, x0, y0, x1, y1 in pixels


@dataclass(frozen=True)
class TokenMaps:
    """The maps of a folder's views, one file each, in a folder that is named by the encoder."""

    encoder: TokenMapEncoder  # computes what is missing
    dataset_dir: str | os.PathLike[str]  # see :func:`miram.inference.views.find_views`, also for all that follow
    input_dir: str | os.PathLike[str] | None
    boxes_csv: str | os.PathLike[str] | None
    intensity: str = "stored"
    workers: int | None = None
    time_limit: float = 300.0

    def last_split(self) -> str:
        """The test split, or the validation split if there is no test split."""
        return "test" if load_split(self.dataset_dir, "test", required=False) else "validation"

    def load(self, split: str, max_patients: int | None = None) -> tuple[list[MappedView], dict[str, str]]:
        """
        The views of a split, after computing the maps that are missing; an interrupted run continues where it stopped.

        Args:
            split: "training", "validation" or "test".
            max_patients: only so many patients, those with the first names.

        Returns:
            the views in the order of their names, and by source why others are left out, which is logged.

        Raises:
            InputError: if the folder, the table or the split cannot be used, no view is left, or the disk is too small.
        """
        settings = {**self.encoder.settings, "intensity": self.intensity}
        folder = Path(self.dataset_dir) / FOLDER / f"maps_{settings_key(settings)}"
        records = ViewRecords(folder, settings, of_boxes=False)
        views = find_views(
            *(self.dataset_dir, split, self.input_dir, self.boxes_csv, records),
            *(self.intensity, self.workers, self.time_limit, max_patients),
        )
        missing = views.todo + [view for view in views.done if not self._is_whole(_map_file(folder, view))]
        shown = progress_bar(len(missing), f"maps of {split} views", unit="views", iterable=missing)
        for number, view in enumerate(shown, start=1):
            records.save(view, self._compute(view, _map_file(folder, view)))
            _check_room(_map_file(folder, view), len(missing) - number)
        found, problems = [], dict(views.problems)
        for view in sorted(views.todo + views.done, key=lambda view: view.source):
            try:
                found.append(_mapped(view, _map_file(folder, view), records.load(view)))
            except InputError as error:
                problems[view.source] = str(error)
                logger.warning("%s is left out: %s", view.source, error)
        if not found:
            source, problem = next(iter(problems.items()))
            raise InputError(f"no {split} view can be used; the first, {source}: {problem}")
        stored = sum(one.map.stat().st_size for one in found)
        logger.info("%s: maps of %d views, %.0f MB, in %s", split, len(found), stored / 1e6, folder)
        return found, problems

    def _is_whole(self, path: Path) -> bool:
        """Whether a file holds a map."""
        try:
            return len(np.load(path, mmap_mode="r")) == self.encoder.num_channels
        except (OSError, ValueError, EOFError):
            return False

    def _compute(self, view: View, path: Path) -> dict[str, Any]:
        """Write the map of a view, and return its record."""
        try:
            image = read_image(view.path, intensity=self.intensity)
            values = self.encoder.map(image.pixels)
        except InputError as error:
            return {"problem": str(error)}
        with atomic_write(path) as temporary:
            np.save(temporary, values)
        return {"shape": list(image.pixels.shape), "spacing": list(image.spacing or (None, None))}


def _check_room(path: Path, number: int) -> None:
    """Raise an InputError if the disk has no room for so many further files as large as this one, if it was written."""
    needed = number * path.stat().st_size if path.is_file() else 0
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"{number} more maps need about {needed / 1e9:.1f} GB in {path.parent}, which has {free / 1e9:.1f} GB: "
            "free some, reduce the views, or take an encoder with larger tokens (--field_of_view) or fewer --blocks"
        )


def _mapped(view: View, path: Path, record: dict[str, Any] | None) -> MappedView:
    """A view with its record; an InputError if it has a problem, or its boxes do not fit."""
    record = record or {"problem": "the file changed while it was read"}
    if "problem" in record:
        raise InputError(record["problem"])
    height, width = record["shape"]
    return MappedView(view, path, (height, width), record["spacing"], view.lesion_boxes((height, width)))


def _map_file(folder: Path, view: View) -> Path:
    return folder / f"{source_digest(view.source)}.npy"


def detection_items(views: Sequence[MappedView]) -> list[dict[str, Any]]:
    """
    The views as samples.

    Returns:
        "image" (name), "patient", "map" (file), "lesions" (names), "shape" (H, W) in pixels, and "boxes" (M, 4), x0,
        y0, x1, y1, with rows of NaN up to the largest number of boxes, so that they make a batch.
    """
    most = max((len(one.boxes) for one in views), default=0) or 1
    return [
        {
            "image": one.view.source,
            "patient": one.view.item["patient"],
            "map": str(one.map),
            "lesions": one.view.lesions,
            "shape": one.shape,
            "boxes": np.pad(one.boxes, ((0, most - len(one.boxes)), (0, 0)), constant_values=np.nan),
        }
        for one in views
    ]


def prepared_views(prepared: Mapping[str, Any], intensity: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    What inference has to know of the training views.

    Args:
        items: of the training views, see :func:`detection_items`.

    Returns:
        `prepared` with "intensity" and "smallest_view", half of the longest side of the smallest view, in pixels.
    """
    smallest = min(max(item["shape"]) for item in items) // 2
    return {**prepared, "intensity": intensity, "smallest_view": smallest}


def anchor_sizes(items: Sequence[Mapping[str, Any]], sizes: Sequence[float] | None = None) -> list[float]:
    """
    The sides of a detector's anchors in pixels.

    Args:
        items: of the training views, see :func:`detection_items`.
        sizes: given ones; None spaces six evenly, as ratios, from the small lesions to the large ones (the square
            roots of their boxes' areas, without 2 % at either end).

    Raises:
        InputError: if the training views have no box.
    """
    if sizes is not None:
        return [float(size) for size in sizes]
    boxes = np.concatenate([item["boxes"] for item in items])
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    sides = sides[~np.isnan(sides)]
    if not len(sides):
        raise InputError("no training view has a box of a lesion: a detector needs some")
    smallest, largest = np.quantile(sides, [0.02, 0.98])
    return [float(size) for size in np.geomspace(smallest, max(largest, 2 * smallest), 6)]
