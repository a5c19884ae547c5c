"""The outputs of an evaluation of detection: candidates as tables, figures, pictures and a report."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miram.data.datalist import DEMONSTRATION, describe
from miram.files import write_json, write_table
from miram.handlers.detection_pictures import draw_pictures
from miram.inference.views import View
from miram.metrics.bootstrap import Bootstrap, estimate_text
from miram.metrics.detection import CENTER, OVERLAPS, RATES, ImageFindings, evaluate_detection
from miram.visualize.html_report import estimate_table, interval_note, write_page

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """The candidates of one image, the highest score first."""

    image: str  # its name
    shape: Sequence[int]  # (H, W) in pixels
    spacing: Sequence[float | None]  # mm per row and column; None if the file does not say
    boxes: np.ndarray  # (N, 4) x0, y0, x1, y1 in pixels
    scores: np.ndarray  # (N,)
    facts: Mapping[str, Any]  # further columns: patient, laterality, view

    @classmethod
    def of_view(
        cls,
        view: View,
        shape: Sequence[int],
        spacing: Sequence[float | None],
        boxes: np.ndarray,
        scores: np.ndarray,
    ) -> Candidates:
        """Those of a view of a prepared folder."""
        facts = {key: view.item.get(key) for key in ("patient", "laterality", "view")}
        return cls(view.source, shape, spacing, boxes, scores, facts)


@dataclass(frozen=True)
class DetectionSettings:
    """How detection is evaluated."""

    bootstrap: Mapping[str, Any] | None = None  # arguments of :class:`miram.metrics.bootstrap.Bootstrap`
    rates: Sequence[float] = RATES  # false alarms per image at which sensitivities are given
    overlaps: Sequence[float] = OVERLAPS  # intersections over union at which a candidate hits
    num_pictures: int = 12  # views in each picture


def write_detection_report(
    output_dir: Path,
    found: Sequence[tuple[View, Candidates, np.ndarray]],
    settings: DetectionSettings,
    dataset_dir: str | os.PathLike[str],
    split: str,
    problems: Mapping[str, str],
    facts: Mapping[str, Any],
    meaning: str,
) -> None:
    """
    Compare candidates with the boxes of lesions, and write candidates.csv, candidates.json (COCO), detection.json, PNG
    files and report.html.

    Args:
        found: views, with their candidates and the boxes (M, 4) of their lesions.
        problems: by source, why other views were left out.
        facts: for detection.json; "model" and "provenance" are in the report, too.
        meaning: what a candidate is, for the report.
    """
    images = [
        ImageFindings(view.item["patient"], one.boxes, one.scores, boxes, view.lesions) for view, one, boxes in found
    ]
    hits = [np.any(image.hits(CENTER), axis=0) for image in images]
    write_candidates(output_dir, [one for _, one, _ in found], hits)
    rates = tuple(float(rate) for rate in settings.rates)
    overlaps = tuple(float(overlap) for overlap in settings.overlaps)
    metrics = evaluate_detection(images, Bootstrap(**(settings.bootstrap or {})), rates, overlaps)
    data = describe(dataset_dir)
    write_json(
        output_dir / "detection.json",
        {**facts, "data": data, "split": split, "problems": dict(problems), **metrics},
    )
    pictures = draw_pictures(output_dir, [view for view, _, _ in found], images, metrics, settings.num_pictures)
    write_page(
        output_dir / "report.html",
        "Where the lesions are",
        f"Candidates in whole views, {split} split of {data['name']}",
        results_html(metrics) + notes_html(metrics, meaning, split, problems),
        pictures,
        {"Data": metrics["counts"], "Model": facts["model"], "Software": facts["provenance"]},
        DEMONSTRATION * data["generated"],
    )
    logger.info("%s; %d views left out", describe_detection(metrics), len(problems))
    logger.info("the report is %s", output_dir / "report.html")


def write_candidates(output_dir: Path, images: Sequence[Candidates], hits: Sequence[Any] | None = None) -> None:
    """
    Write candidates.csv, a row a candidate, and candidates.json, the same in COCO's format.

    Boxes are in pixels of the file, from its upper left corner: for DICOM, the coordinates of a structured report's
    SCOORD (PS3.3, C.18.6.1). The table also has their size in mm, if the file says how large a pixel is.

    Args:
        hits: of each image (N,), which candidates hit a lesion; None if that is not known.
    """
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        down, across = np.array(image.spacing, float).tolist()  # None becomes NaN
        for rank, (box, score) in enumerate(zip(image.boxes.tolist(), image.scores.tolist(), strict=True), start=1):
            x0, y0, x1, y1 = box
            width, height = x1 - x0, y1 - y0
            size = {"width": width, "height": height, "width_mm": width * across, "height_mm": height * down}
            hit = {} if hits is None else {"hit": bool(hits[number - 1][rank - 1])}
            place = {"image": image.image, "rank": rank, "x": x0, "y": y0, **size}
            rows.append({**place, "score": score, **hit, **image.facts})
            annotation = {"id": len(rows), "image_id": number, "category_id": 1, "bbox": [x0, y0, width, height]}
            annotations.append({**annotation, "area": width * height, "score": score})
    columns = ["image", "rank", "x", "y", "width", "height", "width_mm", "height_mm", "score"]
    columns += ["hit"] * (hits is not None)
    columns += list(dict.fromkeys(key for image in images for key in image.facts))
    write_table(output_dir / "candidates.csv", pd.DataFrame(rows, columns=columns))
    listed = [
        {"id": number, "file_name": image.image, "width": image.shape[1], "height": image.shape[0]}
        for number, image in enumerate(images, start=1)
    ]
    coco = {"images": listed, "categories": [{"id": 1, "name": "lesion"}], "annotations": annotations}
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


def notes_html(metrics: Mapping[str, Any], meaning: str, split: str, problems: Mapping[str, str]) -> str:
    """What a reader must know to judge the numbers, as HTML."""
    counts = metrics["counts"]
    notes = [
        f"{counts['images']} views of {counts['patients']} patients, {counts['images without a lesion']} of them "
        f"without a lesion; {counts['boxes']} boxes of {counts['lesions']} lesions; {len(problems)} views left out.",
        meaning,
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
