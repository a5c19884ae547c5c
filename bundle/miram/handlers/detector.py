"""A trained detector applied: to the views of a split, whose lesions are known, and to a user's images."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from miram.errors import InputError
from miram.files import as_text, write_json, write_table
from miram.handlers.detection_report import (
    Candidates,
    DetectionSettings,
    write_candidates,
    write_detection_report,
)
from miram.inference.detecting import DetectorModel
from miram.inference.inputs import Inputs, output_names
from miram.inference.token_map_files import TokenMaps
from miram.progress import progress_bar
from miram.provenance.versions import provenance
from miram.visualize.detections import Panel, plot_views
from miram.visualize.html_report import INTENDED_USE

logger = logging.getLogger(__name__)

MEANING = (
    "A candidate is a box of the detector, and its score is the detector's own. It is not a calibrated probability: "
    "only the order counts."
)


@dataclass(eq=False)
class FixedSettings:
    """Settings that a resumed run must not change, since its weights are of no use with others: for its checkpoint."""

    settings: Mapping[str, Any]  # plain values

    def state_dict(self) -> dict[str, Any]:
        """The settings."""
        return dict(self.settings)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Compare with those of a checkpoint.

        Raises:
            InputError: if they differ.
        """
        changed = [name for name, value in self.settings.items() if state.get(name) != value]
        if changed:
            raise InputError(
                f"the checkpoint was made with other {', '.join(changed)}; give the options of that run, another "
                "--output_dir, or --resume false"
            )


def run_detector_evaluation(
    output_dir: str | os.PathLike[str],
    detector: DetectorModel,
    maps: TokenMaps,
    split: str | None = None,
    max_patients: int | None = None,
    settings: DetectionSettings | None = None,
) -> None:
    """
    Find candidates in the views of a split, and compare them with the boxes of the lesions.

    Args:
        maps: of the views, made by its encoder.
        split: "training", "validation" or "test"; None is the test split, or validation if there is no test split.
        max_patients: see :meth:`miram.inference.token_map_files.TokenMaps.load`.

    Raises:
        InputError: if no view can be used.
    """
    split = split or maps.last_split()
    views, problems = maps.load(split, max_patients)
    found = []
    for one in progress_bar(len(views), "searching", unit="views", iterable=views):
        candidates = detector.find(np.load(one.map), one.shape)
        found.append((one.view, Candidates.of_view(one.view, one.shape, one.spacing, *candidates), one.boxes))
    write_detection_report(
        Path(output_dir),
        found,
        settings or DetectionSettings(),
        maps.dataset_dir,
        split,
        problems,
        {"intended_use": INTENDED_USE, "model": detector.facts, "provenance": provenance()},
        MEANING,
    )


def run_detector_inference(
    inputs: Inputs,
    output_dir: str | os.PathLike[str],
    model: DetectorModel,
    false_alarms: float = 1.0,
    num_pictures: int | None = None,
) -> None:
    """
    Find candidates in a user's mammograms.

    Args:
        inputs: the mammograms, see :func:`miram.inference.mammograms.find_mammograms`.
        output_dir: gets candidates.csv, candidates.json (COCO), images.csv, detections.json and a PNG per image.
        false_alarms: per view, on the validation views; candidates with a lower score are left out.
        num_pictures: the largest number of pictures; None draws every image.

    Raises:
        InputError: if the model does not know the rate of false alarms.
    """
    output, limit = Path(output_dir), model.threshold(false_alarms)
    found = _search(inputs, model, limit, output, num_pictures)
    write_candidates(output, [one for one, _ in found])
    rows: list[dict[str, Any]] = [
        {"image": one.image, "candidates": len(one.scores), "highest": highest, "problem": None}
        for one, highest in found
    ]
    rows += [
        {"image": name, "candidates": None, "highest": None, "problem": problem}
        for name, problem in inputs.problems.items()
    ]
    write_table(output / "images.csv", pd.DataFrame(rows).astype({"candidates": "Int64"}))
    facts = {"intended_use": INTENDED_USE, "model": model.facts, "provenance": provenance()}
    write_json(output / "detections.json", {**facts, "false_alarms": false_alarms, "threshold": limit, "images": rows})
    logger.info(
        "%d mammograms searched, %d candidates above %.3f (%g false alarms per view on the validation views), "
        "%d files skipped: %s. %s",
        len(found),
        sum(len(one.scores) for one, _ in found),
        limit,
        false_alarms,
        len(inputs.problems),
        output / "candidates.csv",
        INTENDED_USE,
    )


def _search(
    inputs: Inputs, model: DetectorModel, limit: float, output: Path, num_pictures: int | None
) -> list[tuple[Candidates, float | None]]:
    """Of each image, read and drawn one at a time, the candidates above the limit and the highest score of all."""
    found, names = [], output_names(inputs.names)
    for index, name in enumerate(progress_bar(len(names), "searching", unit="images", iterable=inputs.names)):
        image = inputs.read(index)
        boxes, scores = model.find(model.encoder.map(image.pixels), image.pixels.shape)
        shown = scores > limit
        facts = {"laterality": image.laterality, "view": image.view}
        spacing = image.spacing or (None, None)
        own = Candidates(as_text(name), image.pixels.shape, spacing, boxes[shown], scores[shown], facts)
        found.append((own, max(scores.tolist(), default=None)))
        if num_pictures is None or index < num_pictures:
            _draw(image.pixels, own, output / f"{names[index]}.png")
    return found


def _draw(pixels: np.ndarray, found: Candidates, path: Path) -> None:
    panel = Panel(pixels, np.zeros((0, 4)), found.boxes, found.scores, f"{len(found.scores)} candidates")
    plot_views([panel], path, found.image, INTENDED_USE)
