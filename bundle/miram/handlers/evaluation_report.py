"""The outputs of an evaluation: predictions, metrics, pictures and a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from torch.utils.data import Dataset

from miram.data.datalist import DEMONSTRATION, Item, describe
from miram.data.prediction_table import prediction_table
from miram.engines.distributed import is_main_process
from miram.files import write_json, write_table
from miram.handlers.cases import draw_most_wrong, readable
from miram.handlers.collect_predictions import PredictionCollector
from miram.handlers.evaluation_curves import draw_curves
from miram.inference.calibrated import Calibration, save_calibration
from miram.inference.classifying import TrainedClassifier
from miram.metrics.bootstrap import estimate_text
from miram.metrics.evaluation import evaluate_predictions
from miram.metrics.predictions import Level
from miram.provenance.versions import provenance
from miram.visualize.attention import MapKind
from miram.visualize.html_report import Picture, write_report
from miram.weights.initial import lineage

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SplitReport:
    """The results of a network on one split of a prepared folder, written to a folder of their own."""

    output_dir: Path
    trained: TrainedClassifier
    items: Sequence[Item]  # of the split, in the order of the data
    dataset: Dataset[dict[str, Any]]  # the images ("image") for the pictures; for a segmentation also masks ("label")
    dataset_dir: str
    split: str

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)


@dataclass(eq=False)
class EvaluationHandler(SplitReport):
    """
    Collect the probabilities of a split, and write predictions.csv, metrics.json, calibration.json, pictures and
    report.html.
    """

    calibration: Calibration  # holds the operating points, and is written to a file
    # further arguments of :func:`miram.metrics.evaluation.evaluate_predictions`
    metrics: Mapping[str, Any] | None = None
    picture_level: Level = "lesion"  # what a point of the curves is: "image", "lesion" or "patient"
    num_cases: int = 12  # how many of the most wrong cases to draw
    # the map that is overlaid on them, see :func:`miram.visualize.attention.attention_maps`
    map_kind: MapKind = "relevance"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.collector = PredictionCollector(len(self.items))

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator of the split; its "pred" must be probabilities."""
        self.collector.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def write(self, engine: SupervisedEvaluator) -> None:
        """Write all files, in the first process."""
        predictions = self.collector.table()  # all processes together
        if not is_main_process():
            return
        task = self.trained.task
        table = prediction_table(self.items, predictions, task, self.dataset_dir)
        write_table(self.output_dir / "predictions.csv", table)
        threshold = self.calibration.thresholds or 0.5
        found = evaluate_predictions(table, task.classes, task.type, threshold=threshold, **(self.metrics or {}))
        facts, notes = self._facts(), self._notes()
        write_json(self.output_dir / "metrics.json", {**facts, "notes": notes, **found})
        save_calibration(self.output_dir / "calibration.json", self.calibration)
        pictures = draw_curves(self.output_dir, table, task, found, self.picture_level)
        most_wrong = draw_most_wrong(
            self.output_dir,
            table,
            self.trained,
            self.dataset,
            self.calibration,
            engine.state.device,
            self.num_cases,
            self.map_kind,
        )
        if self.num_cases and not most_wrong:
            notes.append("No prediction is wrong at the operating point, so there is no picture of wrong ones.")
        pictures += most_wrong
        self._write_report(found, facts, notes, pictures)
        logger.info(_main_figures(found))
        logger.info("the report is %s", self.output_dir / "report.html")

    def _facts(self) -> dict[str, Any]:
        """Where the numbers come from."""
        data = describe(self.dataset_dir)
        demonstration, digest = data.pop("generated"), data.pop("sha256")
        calibration = asdict(self.calibration)
        return {
            "task": asdict(self.trained.task),
            "data": {**data, "split": self.split, "images": len(self.items), "datalist_sha256": digest},
            "model": {
                "file": self.trained.path.name,
                "run": self.trained.path.parent.name,
                "sha256": calibration.pop("model_sha256"),
                "preprocessing": self.trained.preprocessing,
                **{f"trained: {key}": value for key, value in self.trained.provenance.items()},
            },
            "calibration": calibration,
            "provenance": provenance(seed=(self.metrics or {}).get("seed")),
            "demonstration": demonstration,
        }

    def _notes(self) -> list[str]:
        """What a reader must know to judge the numbers."""
        notes = [
            f"Probabilities: {self.calibration.describe()}.",
            f"Operating point: {self.calibration.threshold_note}.",
        ]
        if self.split == "validation":
            notes.append(
                "This is the validation split, on which probabilities and operating point are fitted and the best "
                "epoch may have been chosen: these figures are too optimistic. Only a test split gives a valid result."
            )
        if self.split == "training":
            notes.append("The network was trained on these images: these figures show what it has memorised.")
        pretrained = lineage(self.trained.provenance.get("pretrained_provenance") or {})
        seen = max(facts.get("test_images") or 0 for facts in pretrained)
        if seen:
            notes.append(
                f"The encoder was pretrained on {seen} images of test patients too (allow_test_patients), without "
                "their labels: figures of the test split do not hold for new patients."
            )
        return notes

    def _write_report(
        self, found: Mapping[str, Any], facts: Mapping[str, Any], notes: Sequence[str], pictures: Sequence[Picture]
    ) -> None:
        task, data = self.trained.task, facts["data"]
        banner = DEMONSTRATION * facts["demonstration"]
        write_report(
            self.output_dir / "report.html",
            title=f"{task.name.replace('_', ' ').capitalize()}: {', '.join(map(readable, task.classes))}",
            subtitle=f"Evaluation on the {self.split} split of {data['name']} ({data['source']})",
            metrics=found,
            pictures=pictures,
            facts={
                "Data": data,
                "Model": facts["model"],
                "Calibration and operating point": facts["calibration"],
                "Software": facts["provenance"],
            },
            notes=notes,
            banner=banner,
        )


def _main_figures(found: Mapping[str, Any]) -> str:
    """The main figures in a line for the log."""
    return "; ".join(
        f"{short} per {level} {estimate_text(report['metrics'][name]['overall'])}"
        for level, report in found["levels"].items()
        for name, short in (("auc", "AUC"), ("average_precision", "AP"))
    )
