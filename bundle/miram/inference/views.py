"""Whole views of a split of a prepared folder, with the boxes of their lesions, and what was found in them so far."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miram.data.datalist import SPLITS, Item, load_split
from miram.errors import InputError
from miram.files import as_text, write_json
from miram.inference.inputs import check_file
from miram.inference.mammograms import check_mammogram
from miram.jobs import run_jobs
from miram.prepare.boxes import read_boxes
from miram.prepare.records import source_digest
from miram.prepare.regions import Box
from miram.readers.formats import is_image_file
from miram.readers.search import search

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """A view."""

    source: str  # its path relative to the input folder, as the data list has it
    path: Path  # of the file
    item: Item  # a crop of it in the data list: patient, side, view, hash
    boxes: tuple[Box, ...] = ()  # of its lesions, in pixels of the file
    lesions: tuple[str, ...] = ()  # the name of each, the same in both views of a breast
    has_tissue: bool = False  # whether the data list has a crop of its tissue: then it can be read and shows a breast

    @property
    def made_from(self) -> dict[str, Any]:
        """What a record depends on beside the settings, as JSON holds it: the boxes, and size and time of the file."""
        status = self.path.stat()
        return {
            "boxes": [box.key for box in self.boxes],
            "lesions": list(self.lesions),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
        }

    def lesion_boxes(self, shape: Sequence[int]) -> np.ndarray:
        """
        The boxes as (M, 4), x0, y0, x1, y1, cut off at the edges of an image of this shape (H, W).

        Raises:
            InputError: if one of them is not in the image, or has no numbers.
        """
        for box in self.boxes:
            box.mask(shape)
        corners = [(x, y, x + width, y + height) for x, y, width, height in (box.numbers for box in self.boxes)]
        return np.clip(np.array(corners, float).reshape(-1, 4), 0, [shape[1], shape[0]] * 2)


class ViewRecords:
    """
    What was found in each view, one small file per view, so that a run continues where an earlier one stopped.

    Args:
        settings: all that decides what is found; plain values.
        of_boxes: whether it depends on the lesions' boxes, too.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any], of_boxes: bool = True) -> None:
        self.folder = Path(folder)
        self.of_boxes = of_boxes
        self.settings = json.loads(json.dumps(dict(settings)))

    def begin(self) -> None:
        """
        Start a run, or continue one.

        Raises:
            InputError: if the records are of other settings.
        """
        path = self.folder / "settings.json"
        before = _read(path) or self.settings
        changed = [name for name in self.settings if before.get(name) != self.settings[name]]
        if changed:
            raise InputError(
                f"{self.folder} holds what a run with other settings found ({', '.join(changed)}); give the same ones, "
                "or another --output_dir, or delete that folder"
            )
        write_json(path, self.settings)

    def load(self, view: View) -> dict[str, Any] | None:
        """The record of a view; None if there is none, or if the file or its boxes have changed since."""
        record = _read(self._path(view))
        return record if record is not None and record.get("made_from") == self._made_from(view) else None

    def is_done(self, view: View) -> bool:
        """Whether the view has a record, and one without a problem: what was wrong may have been mended."""
        return "problem" not in (self.load(view) or {"problem": None})

    def save(self, view: View, record: Mapping[str, Any]) -> None:
        """Keep the record of a view."""
        write_json(self._path(view), {"source": view.source, "made_from": self._made_from(view), **record})

    def _made_from(self, view: View) -> dict[str, Any]:
        made_from = view.made_from
        return made_from if self.of_boxes else {name: made_from[name] for name in ("bytes", "modified")}

    def _path(self, view: View) -> Path:
        return self.folder / f"{source_digest(view.source)}.json"


@dataclass(frozen=True)
class Views:
    """The views of a split."""

    todo: list[View]  # those that are still to be searched and can be read
    done: list[View]  # those with a record of an earlier run
    problems: dict[str, str]  # by source, why a view cannot be used
    box_size: tuple[float, float]  # width and height of the median box of the training patients' lesions, in pixels

    @property
    def samples(self) -> list[dict[str, Any]]:
        """What is still to be mapped: the path of each, and its "index" in `todo`."""
        return [{"image": str(view.path), "index": index} for index, view in enumerate(self.todo)]


def find_views(
    dataset_dir: str | os.PathLike[str],
    split: str,
    input_dir: str | os.PathLike[str] | None,
    boxes_csv: str | os.PathLike[str] | None,
    records: ViewRecords,
    intensity: str = "stored",
    workers: int | None = None,
    time_limit: float = 300.0,
    max_patients: int | None = None,
) -> Views:
    """
    Find the views that the crops of a split were cut from.

    The split is that of the crops, so no patient of the training is taken for one of the test.

    Args:
        dataset_dir: a folder that `prepare_folder.py` made from the views.
        split: "training", "validation" or "test".
        input_dir: the folder of views that was prepared.
        boxes_csv: the table of boxes that it was prepared with.
        intensity: see :func:`miram.readers.formats.read_image`.
        workers: processes that first read the views without a crop of tissue, which may not show a breast; see
            :func:`miram.inference.inputs.find_images`.
        max_patients: only so many patients, those with the first names.

    Raises:
        InputError: if an argument is missing or does not fit the prepared folder, or no view can be used.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if max_patients is not None and max_patients < 1:
        raise InputError(f"max_patients is {max_patients}; give 1 or more, or null for all")
    if input_dir is None or boxes_csv is None:
        missing = "--input, the folder of whole views" if input_dir is None else "--boxes_csv, the table of their boxes"
        raise InputError(f"give {missing} from which {dataset_dir} was prepared")
    all_views = _views(dataset_dir, Path(input_dir), boxes_csv)
    patients = set(sorted({view.item["patient"] for view in all_views[split].values()})[:max_patients])
    views = [view for view in all_views[split].values() if view.item["patient"] in patients]
    if not views:
        raise InputError(f"the {split} split of {dataset_dir} is empty: there is no view to search")
    records.begin()
    done = [view for view in views if records.is_done(view)]
    left = [view for view in views if not records.is_done(view)]
    check = functools.partial(check_file, check=check_mammogram, intensity=intensity)
    unknown = [view for view in left if not view.has_tissue]
    results = run_jobs([view.path for view in unknown], check, workers, "reading", time_limit)
    problems = {
        view.source: as_text(str(result)) for view, result in zip(unknown, results, strict=True) if result is not None
    }
    for problem in problems.values():
        logger.warning("skipped %s", problem)
    todo = [view for view in left if view.source not in problems]
    if not (todo or done):
        raise InputError(f"none of the {len(views)} views can be searched: {next(iter(problems.values()))}")
    logger.info("%s: %d views, %d of them known from an earlier run", split, len(views), len(done))
    return Views(todo, done, problems, _typical_box(all_views["training"].values()))


def _views(
    dataset_dir: str | os.PathLike[str], root: Path, boxes_csv: str | os.PathLike[str]
) -> dict[str, dict[str, View]]:
    """The views of each split by source, in the order of the data list."""
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give --input the folder of whole views")
    sources = [name for name in search(root, without=Path(dataset_dir)).files if is_image_file(root / name)]
    if not sources:
        raise InputError(f"{root} holds no image; give --input the folder of whole views")
    labels, known = read_boxes(boxes_csv, sources), set(sources)
    found: dict[str, dict[str, View]] = {}
    for split in SPLITS:
        found[split] = {}
        items = load_split(dataset_dir, split, required=False)
        tissue = {item.get("source") for item in items if item.get("crop") == "tissue"}
        for item in items:
            source = item.get("source")
            if source is None:
                raise InputError(
                    f"{dataset_dir} does not say which view a crop is of; give a folder that prepare_folder.py made "
                    "from the views and their boxes"
                )
            if source not in known:
                raise InputError(
                    f"{dataset_dir} has a crop of {source!r}, which is not in {root}; give --input the folder that "
                    "prepare_folder.py made it from"
                )
            if source not in found[split]:
                rows = [row for row in labels.lesions.get(source, []) if row.box]
                names = [_lesion_name(row.lesion or f"{source}:{number}", item) for number, row in enumerate(rows)]
                boxes = tuple(row.box for row in rows if row.box)
                found[split][source] = View(source, root / source, item, boxes, tuple(names), source in tissue)
    return found


def _lesion_name(name: str, item: Item) -> str:
    """A table may count the lesions of a patient breast by breast."""
    return f"{item['patient']}/{item.get('laterality') or ''}/{name}"


def _typical_box(views: Iterable[View]) -> tuple[float, float]:
    """Median width and height; NaN without a box."""
    numbers = np.array([box.numbers[2:] for view in views for box in view.boxes], float).reshape(-1, 2)
    width, height = np.nanmedian(numbers, axis=0).tolist() if len(numbers) else (np.nan, np.nan)
    return width, height


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
