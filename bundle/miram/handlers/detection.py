"""Candidates for lesions in whole views: found in their risk maps, compared with their boxes, written and reported."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miram.data.datalist import DEMONSTRATION, FILE_NAME, describe, read_datalist, says_generated
from miram.errors import InputError
from miram.files import write_json, write_table
from miram.handlers.detection_pictures import draw_pictures
from miram.handlers.inference_report import result_facts
from miram.handlers.view_search import ViewSearch
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.inference.views import View
from miram.metrics.bootstrap import Bootstrap, estimate_text
from miram.metrics.detection import CENTER, OVERLAPS, RATES, ImageFindings, evaluate_detection
from miram.visualize.html_report import estimate_table, interval_note, write_page

logger = logging.getLogger(__name__)

COLUMNS = [
    *("image", "rank", "x", "y", "width", "height", "width_mm", "height_mm", "probability", "hit"),
    *("patient", "laterality", "view"),
]


@dataclass(eq=False, kw_only=True)
class DetectionHandler(ViewSearch):
    """
    Compare the candidates of all views with the boxes of their lesions.

    Writes candidates.csv, candidates.json (COCO), detection.json, PNG files and report.html.
    """

    output_dir: Path
    trained: TrainedClassifier
    calibration: Calibration  # how logits became probabilities
    dataset_dir: str
    split: str  # of the views
    # width and height of a candidate's box in pixels; None is the median box of the training's lesions
    box_size: Sequence[float] | None = None
    bootstrap: Mapping[str, Any] | None = None  # arguments of :class:`miram.metrics.bootstrap.Bootstrap`
    rates: Sequence[float] = RATES  # false alarms per image at which sensitivities are given
    overlaps: Sequence[float] = OVERLAPS  # intersections over union at which a candidate hits
    num_pictures: int = 12  # views in each picture

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_dir = Path(self.output_dir)
        self.size = tuple(self.box_size or self.views.box_size)
        self.resampling = Bootstrap(**(self.bootstrap or {}))
        self.rates = tuple(float(rate) for rate in self.rates)
        self.overlaps = tuple(float(overlap) for overlap in self.overlaps)
        if not np.isfinite(self.size).all() or min(self.size) <= 0:
            raise InputError("the table has no box of a training patient; give --box_size, width and height in pixels")

    def write(self) -> None:
        """Write all files."""
        found = self.found()
        if not found:
            raise InputError(f"no view could be searched; the first: {next(iter(self.problems.values()), '')}")
        images = [self._findings(view, record) for view, record in found]
        write_candidates(self.output_dir, found, images)
        metrics = evaluate_detection(images, self.resampling, self.rates, self.overlaps)
        facts = {**result_facts(self.trained, self.calibration), "data": describe(self.dataset_dir)}
        settings = {"split": self.split, "box_size": list(self.size), "problems": self.problems}
        write_json(self.output_dir / "detection.json", {**facts, **settings, **metrics})
        pictures = draw_pictures(self.output_dir, [view for view, _ in found], images, metrics, self.num_pictures)
        write_page(
            self.output_dir / "report.html",
            "Where the lesions are",
            f"Candidates in whole views, {self.split} split of {facts['data']['name']}",
            results_html(metrics) + notes_html(metrics, self.size, self.split, self.problems),
            pictures,
            {"Data": metrics["counts"], "Model": facts["model"], "Software": facts["provenance"]},
            DEMONSTRATION * says_generated(read_datalist(Path(self.dataset_dir) / FILE_NAME)),
        )
        logger.info("%s; %d views left out", describe_detection(metrics), len(self.problems))
        logger.info("the report is %s", self.output_dir / "report.html")

    def _findings(self, view: View, record: Mapping[str, Any]) -> ImageFindings:
        shape = record["shape"]
        candidates = np.array(record["candidates"], float).reshape(-1, 3)
        boxes = boxes_around(candidates[:, 1::-1] + 0.5, self.size)
        return ImageFindings(view.item["patient"], boxes, candidates[:, 2], view.lesion_boxes(shape), view.lesions)


def boxes_around(centers: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """Boxes (N, 4) x0, y0, x1, y1 of a width and height around centres (N, 2), x and y."""
    half = np.array(size, float) / 2
    return np.concatenate([centers - half, centers + half], axis=1)


def write_candidates(
    output_dir: Path, found: Sequence[tuple[View, Mapping[str, Any]]], images: Sequence[ImageFindings]
) -> None:
    """
    Write candidates.csv, a row a candidate, and candidates.json, the same in COCO's format.

    Boxes are in pixels of the file, from its upper left corner: for DICOM, the coordinates of a structured report's
    SCOORD (PS3.3, C.18.6.1). The table also has their size in mm, if the file says how large a pixel is.
    """
    rows: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    for number, ((view, record), image) in enumerate(zip(found, images, strict=True), start=1):
        height, width = record["shape"]
        down, across = np.array(record["spacing"], float).tolist()  # None becomes NaN
        pictures.append({"id": number, "file_name": view.source, "width": width, "height": height})
        hit = np.any(image.hits(CENTER), axis=0).tolist()
        for rank, (box, score) in enumerate(zip(image.boxes.tolist(), image.scores.tolist(), strict=True), start=1):
            x0, y0, x1, y1 = box
            place = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
            facts = {key: view.item.get(key) for key in ("patient", "laterality", "view")}
            millimetres = {"width_mm": (x1 - x0) * across, "height_mm": (y1 - y0) * down}
            hits = {"probability": score, "hit": hit[rank - 1]}
            rows.append({"image": view.source, "rank": rank, **place, **millimetres, **hits, **facts})
            rows[-1]["image_id"] = number
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_table(output_dir / "candidates.csv", table)
    annotations = [
        {
            "id": number,
            "image_id": row["image_id"],
            "category_id": 1,
            "bbox": [row["x"], row["y"], row["width"], row["height"]],
            "area": row["width"] * row["height"],
            "score": row["probability"],
        }
        for number, row in enumerate(rows, start=1)
    ]
    coco = {"images": pictures, "categories": [{"id": 1, "name": "lesion"}], "annotations": annotations}
    write_json(output_dir / "candidates.json", coco)


def results_html(metrics: Mapping[str, Any]) -> str:
    """The tables of a report."""
    parts = []
    for unit, meaning in (("box", "each view of a lesion counts"), ("lesion", "a lesion counts once, hit in any view")):
        rows = {_criterion(name): list(values[unit].values()) for name, values in metrics["sensitivity"].items()}
        rates = next(iter(metrics["sensitivity"].values()))[unit]
        columns = [name if name == "mean" else f"{name} false alarms an image" for name in rates]
        parts.append(f"<h3>Sensitivity: {meaning}</h3>" + estimate_table(columns, rows))
    precision = metrics["average_precision"]
    heads = [f"overlap {name}" for name in precision]
    return "".join(parts) + "<h3>Average precision</h3>" + estimate_table(heads, {"per box": list(precision.values())})


def notes_html(metrics: Mapping[str, Any], size: Sequence[float], split: str, problems: Mapping[str, str]) -> str:
    """What a reader must know to judge the numbers, as HTML."""
    counts = metrics["counts"]
    notes = [
        f"{counts['images']} views of {counts['patients']} patients, {counts['images without a lesion']} of them "
        f"without a lesion; {counts['boxes']} boxes of {counts['lesions']} lesions; {len(problems)} views left out.",
        f"A candidate is a peak of the risk map, the highest within half a window. Its box is {size[0]:.0f} x "
        f"{size[1]:.0f} pixels around it: its size is not estimated, which limits overlaps.",
        "Hit: the candidate's centre is in the lesion's box, or both overlap by the intersection over union given. "
        "More candidates on the same lesion are neither hits nor false alarms; in the average precision they are "
        "false alarms.",
        f"{interval_note(metrics['bootstrap'])}.",
    ]
    if split != "test":
        notes.append(f"This is the {split} split, which the training used: only a test split gives a valid result.")
    return estimate_table([], {}, notes)


def describe_detection(metrics: Mapping[str, Any]) -> str:
    """The main figures in a line for the log."""
    sensitivities = metrics["sensitivity"][CENTER]["lesion"]
    parts = [f"{rate}: {estimate_text(estimate)}" for rate, estimate in sensitivities.items()]
    return f"sensitivity per lesion by false alarms an image (centre in the box): {', '.join(parts)}"


def _criterion(name: str) -> str:
    return "centre in the box" if name == CENTER else f"overlap of {name} or more"
