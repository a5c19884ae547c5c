"""Candidates for lesions in whole views: the peaks of their risk maps, compared with the lesions' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miram.errors import InputError
from miram.handlers.detection_report import Candidates, DetectionSettings, write_detection_report
from miram.handlers.inference_report import result_facts
from miram.handlers.view_search import ViewSearch
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier


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
