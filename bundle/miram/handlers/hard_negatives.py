"""Hard negatives: where a classifier of lesions is wrong in its own training views becomes crops of tissue."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from miram.data.datalist import FILE_NAME, Item, read_datalist, read_prepared, write_datalist
from miram.errors import InputError
from miram.handlers.view_search import ViewSearch
from miram.inference.views import View
from miram.inference.windows import Region
from miram.prepare.prepared import write_png16
from miram.prepare.records import source_digest
from miram.transforms.crops import crop_at

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class HardNegatives(ViewSearch):
    """
    Cut the highest regions away from any lesion, and add them to the training list as crops of tissue.

    Raises:
        InputError: if the folder does not say how large its crops are.
    """

    dataset_dir: str | os.PathLike[str]  # the prepared folder
    model: str  # a name of the classifier, such as the digest of its file: crops of another one are kept
    per_view: int = 4  # crops per view, at most
    min_probability: float = 0.1  # a region below it is not taken for a false alarm

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = Path(self.dataset_dir)
        self.model = self.model[:12]
        size = read_prepared(self.dataset_dir).get("crop_size")
        if not isinstance(size, int):
            raise InputError(
                f"{self.folder / FILE_NAME} does not say how large its crops are; prepare the folder again"
            )
        self.crop_size = size

    def keep(self, view: View, regions: Sequence[Region], lesions: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
        """Cut the false alarms of a view, and keep the names of the crops."""
        occupied = np.zeros(pixels.shape, bool)
        for x0, y0, x1, y1 in lesions:
            occupied[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
        occupied = ndimage.binary_dilation(occupied)  # as for other tissue: no pixel that a box touches
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(view.source).stem)[:60]
        crops: list[dict[str, Any]] = []
        for region in regions:
            center = (region.row + 0.5, region.column + 0.5)
            free = not crop_at(occupied, center, self.crop_size).any()
            if free and region.probability >= self.min_probability and len(crops) < self.per_view:
                name = f"images/{stem}_{source_digest(view.source)[:8]}_hard_{self.model}_{len(crops):03d}.png"
                write_png16(self.folder / name, crop_at(pixels, center, self.crop_size).astype(np.uint16))
                crops.append({"image": name, "probability": round(region.probability, 4)})
        return {"crops": crops}

    def write(self) -> None:
        """Add the crops to the data list, in place of those that an earlier run of this classifier added."""
        items = [self._item(view, crop) for view, record in self.found() for crop in record["crops"]]
        datalist = read_datalist(self.folder / FILE_NAME)
        kept = [item for item in datalist["training"] if item.get("mined_by") != self.model]
        write_datalist(self.folder / FILE_NAME, datalist | {"training": kept + items})
        tissue = sum(item.get("crop") == "tissue" for item in kept)
        logger.info(
            "%d hard negatives of %d training views (%d left out) added to %s, beside %d crops of lesions and %d of "
            "tissue; train again with another --runs_dir",
            len(items),
            len(self.found()),
            len(self.problems),
            self.folder / FILE_NAME,
            sum(item.get("crop") == "lesion" for item in kept),
            tissue,
        )
        if not items:
            logger.warning("no region is at or above %g: lower --min_probability", self.min_probability)

    def _item(self, view: View, crop: dict[str, Any]) -> Item:
        spacing = view.item.get("spacing")
        zoom = view.item.get("zoom", 1.0)
        facts = {key: view.item.get(key) for key in ("patient", "source", "laterality", "view", "hash")}
        return {
            "image": crop["image"],
            "mask": None,
            "crop": "tissue",
            **facts,
            "zoom": 1.0,
            "spacing": spacing and [value * zoom for value in spacing],
            "lesion": None,
            "mined_by": self.model,
            "mined_probability": crop["probability"],
        }
