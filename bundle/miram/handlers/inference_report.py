"""The outputs of inference: a table, the same as JSON, and one picture per image."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from torch.utils.data import Dataset

from miram.data.tasks import Task
from miram.files import write_json, write_table
from miram.handlers.cases import MAP_NOTES, explained_case, readable
from miram.handlers.collect_predictions import PredictionCollector
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.inference.inputs import Inputs, output_names
from miram.provenance.versions import provenance
from miram.visualize.attention import MapKind
from miram.visualize.contact_sheet import plot_case
from miram.visualize.html_report import INTENDED_USE

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class InferenceHandler:
    """
    Collect the probabilities of a user's images, and write `predictions.csv`, `predictions.json` and `<image>.png`.
    """

    output_dir: Path
    trained: TrainedClassifier
    inputs: Inputs  # the images, in the order of the data, and the files that could not be used
    dataset: Dataset[dict[str, Any]]  # the images ("image") for the pictures
    calibration: Calibration  # holds the operating points, and is written to the JSON file
    num_pictures: int | None = None  # the largest number of pictures; None draws all images
    # the map that is overlaid on them, see :func:`miram.visualize.attention.attention_maps`
    map_kind: MapKind = "relevance"

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)
        self.names = output_names(self.inputs.names)
        self.collector = PredictionCollector(len(self.inputs.items))

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator; its "pred" must be probabilities."""
        self.collector.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def write(self, engine: SupervisedEvaluator) -> None:
        """Write all files."""
        probabilities = self.collector.table()
        rows = [
            {"image": name, **describe_prediction(values, self.trained.task, self.calibration), "problem": None}
            for name, values in zip(self.inputs.names, probabilities, strict=True)
        ]
        rows += [{"image": name, "problem": problem} for name, problem in self.inputs.problems.items()]
        write_table(self.output_dir / "predictions.csv", pd.DataFrame(rows))
        content = {**result_facts(self.trained, self.calibration), "predictions": rows}
        write_json(self.output_dir / "predictions.json", content)
        for index in range(len(probabilities))[: self.num_pictures]:
            self._draw(index, probabilities[index], rows[index], engine.state.device)
        logger.info(
            "%d images predicted, %d skipped: %s", len(probabilities), len(self.inputs.problems), self.output_dir
        )

    def _draw(self, index: int, probabilities: np.ndarray, row: Mapping[str, Any], device: torch.device) -> None:
        """One image's picture, beside the tables."""
        image = torch.as_tensor(self.dataset[index]["image"])[None].to(device)
        shown = [f"{readable(name)} {row[f'prob_{name}']:.2f}" for name in self.trained.task.scored]
        title = f"called {row['called'] or 'none'} (p: {', '.join(shown)})"
        case = explained_case(
            image, self.trained, probabilities, self.calibration, self.map_kind, title, self.inputs.names[index]
        )
        plot_case(
            case,
            self.output_dir / f"{self.names[index]}.png",
            f"{MAP_NOTES[self.map_kind]}\n{INTENDED_USE}",
        )


def result_facts(trained: TrainedClassifier, calibration: Calibration) -> dict[str, Any]:
    """Facts that go with every result: intended use, task, model, calibration, versions."""
    task = trained.task
    return {
        "intended_use": INTENDED_USE,
        "task": {"name": task.name, "type": task.type, "classes": list(task.classes)},
        "model": {"file": trained.path.name, "sha256": trained.sha256, **trained.provenance},
        "scale": calibration.scale,
        "bias": calibration.bias,
        "calibration_note": calibration.note,
        "thresholds": calibration.thresholds_at("image", task.scored) if task.type != "multiclass" else None,
        "threshold_note": calibration.threshold_note,
        "provenance": provenance(),
    }


def describe_prediction(probabilities: np.ndarray, task: Task, calibration: Calibration) -> dict[str, Any]:
    """`prob_<class>` of each class, and `called`: the predicted classes, joined by `;`."""
    row: dict[str, Any] = {f"prob_{name}": float(value) for name, value in zip(task.scored, probabilities, strict=True)}
    called = np.array(task.scored)[calibration.called(probabilities, task)].tolist()
    if task.type == "binary" and not called:
        called = [task.classes[0]]
    return row | {"called": ";".join(called)}
