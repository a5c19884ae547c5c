"""
Whole views searched one by one: the highest regions of each risk map are kept.

They are candidates for lesions, which are compared with the lesions' boxes; or false alarms, which become crops.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from scipy import ndimage

from miram.data.datalist import FILE_NAME, Item, read_datalist, read_prepared, write_datalist
from miram.errors import InputError
from miram.handlers.detection_report import Candidates, DetectionSettings, write_detection_report
from miram.handlers.inference_report import result_facts
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.inference.risk_map import RiskMapInferer
from miram.inference.views import View, ViewRecords, Views
from miram.inference.windows import Region
from miram.prepare.prepared import write_png16
from miram.prepare.records import source_digest
from miram.progress import progress_bar
from miram.transforms.crops import crop_at

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class ViewSearch:
    """Keep the highest regions of each view's map."""

    views: Views  # the views, in the order of the data
    records: ViewRecords  # where they are kept
    inferer: RiskMapInferer  # made the maps
    most: int = 50  # regions per view
    progress: bool = True  # whether to show a bar over the views

    def __post_init__(self) -> None:
        self.bar = progress_bar(len(self.views.todo) if self.progress else 0, "searching", unit="views")

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that decollates, whose "pred" are the maps (1, H, W)."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.search)
        engine.add_event_handler(Events.COMPLETED, self.bar.close)

    def search(self, engine: SupervisedEvaluator) -> None:
        """Write the records of a batch of views."""
        for sample, output in zip(list(engine.state.batch), list(engine.state.output), strict=True):
            view = self.views.todo[int(sample["index"])]
            probability, pixels = (output[key][0].cpu().numpy() for key in ("pred", "image"))
            record = self._record(view, probability, pixels)
            self.records.save(view, {**record, "spacing": output["image"].meta["pixel_spacing"].tolist()})
            self.bar.update()

    def keep(self, view: View, regions: Sequence[Region], lesions: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
        """What is kept of a view: of its regions, its lesions' boxes (M, 4) and its pixels (H, W), 0..65535."""
        found = [[region.row, region.column, round(region.probability, 6)] for region in regions]
        return {"shape": list(pixels.shape), "candidates": found}

    def _record(self, view: View, probability: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
        try:
            lesions = view.lesion_boxes(pixels.shape)
        except InputError as error:
            logger.warning("%s is left out, since where its lesion lies is not known: %s", view.source, error)
            return {"problem": str(error)}
        return self.keep(view, self.inferer.regions(probability, self.most), lesions, pixels)

    def found(self) -> list[tuple[View, dict[str, Any]]]:
        """All views with their records, those of earlier runs too; without those with a problem."""
        records = [(view, self.records.load(view)) for view in self.views.done + self.views.todo]
        return [(view, record) for view, record in records if record is not None and "problem" not in record]

    @property
    def problems(self) -> dict[str, str]:
        """By source, why a view was left out."""
        records = {view.source: self.records.load(view) for view in self.views.done + self.views.todo}
        faulty = {source: record["problem"] for source, record in records.items() if record and "problem" in record}
        return self.views.problems | faulty


@dataclass(eq=False, kw_only=True)
class DetectionHandler(ViewSearch):
    """Compare the candidates of all views with the boxes of their lesions, see :func:`write_detection_report`."""

    output_dir: Path
    trained: TrainedClassifier
    calibration: Calibration  # how logits became probabilities
    dataset_dir: str
    split: str  # of the views
    # width and height of a candidate's box in pixels; None is the median box of the training's lesions
    box_size: Sequence[float] | None = None
    settings: DetectionSettings = field(default_factory=DetectionSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_dir = Path(self.output_dir)
        self.size = tuple(self.box_size or self.views.box_size)
        if not np.isfinite(self.size).all() or min(self.size) <= 0:
            raise InputError("the table has no box of a training patient; give --box_size, width and height in pixels")

    def write(self) -> None:
        """Write all files."""
        found = self.found()
        if not found:
            raise InputError(f"no view could be searched; the first: {next(iter(self.problems.values()), '')}")
        candidates = []
        for view, record in found:
            peaks, shape = np.array(record["candidates"], float).reshape(-1, 3), record["shape"]
            boxes = boxes_around(peaks[:, 1::-1] + 0.5, self.size)
            image = Candidates.of_view(view, shape, record["spacing"], boxes, peaks[:, 2])
            candidates.append((view, image, view.lesion_boxes(shape)))
        write_detection_report(
            self.output_dir,
            candidates,
            self.settings,
            self.dataset_dir,
            self.split,
            self.problems,
            {**result_facts(self.trained, self.calibration), "box_size": list(self.size)},
            f"A candidate is a peak of the risk map, the highest within half a window. Its box is {self.size[0]:.0f} x "
            f"{self.size[1]:.0f} pixels around it: its size is not estimated, which limits overlaps.",
        )


def boxes_around(centers: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """Boxes (N, 4) x0, y0, x1, y1 of a width and height around centres (N, 2), x and y."""
    half = np.array(size, float) / 2
    return np.concatenate([centers - half, centers + half], axis=1)


@dataclass(eq=False, kw_only=True)
class HardNegatives(ViewSearch):
    """
    Cut the highest regions away from any lesion, and add them to the training list as crops of tissue.

    Raises:
        InputError: if the folder does not say how large its crops are.
    """

    dataset_dir: str | os.PathLike[str]
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
        found = self.found()
        items = [self._item(view, crop) for view, record in found for crop in record["crops"]]
        datalist = read_datalist(self.folder)
        kept = [item for item in datalist["training"] if item.get("mined_by") != self.model]
        write_datalist(self.folder, datalist | {"training": kept + items})
        tissue = sum(item.get("crop") == "tissue" for item in kept)
        logger.info(
            "%d hard negatives of %d training views (%d left out) added to %s, beside %d crops of lesions and %d of "
            "tissue; train again with another --output_dir",
            len(items),
            len(found),
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
