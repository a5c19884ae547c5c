"""The outputs of evaluating a segmentation: a table of scores, figures with intervals, pictures and a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice

from miram.data.datalist import DEMONSTRATION, describe
from miram.files import write_json, write_table
from miram.handlers.evaluation_report import SplitReport
from miram.handlers.inference_report import result_facts
from miram.metrics.bootstrap import Bootstrap, estimate_text
from miram.metrics.segmentation import SCORES, evaluate_segmentation
from miram.visualize.detections import MaskPanel, plot_masks
from miram.visualize.html_report import Picture, estimate_table, interval_note, write_page

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SegmentationHandler(SplitReport):
    """
    Score the predicted mask of each image of a split.

    Writes segmentation.csv, segmentation.json, worst.png and report.html.
    """

    bootstrap: Mapping[str, Any] | None = None  # arguments of :class:`miram.metrics.bootstrap.Bootstrap`
    threshold: float = 0.5  # of the probability
    num_pictures: int = 12  # of the images with the lowest Dice

    def __post_init__(self) -> None:
        super().__post_init__()
        self.resampling = Bootstrap(**(self.bootstrap or {}))
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: SupervisedEvaluator) -> None:
        """Attach to an evaluator that decollates, whose "pred" are probabilities and "label" masks (1, *spatial)."""
        self.evaluator = engine
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def score(self, engine: SupervisedEvaluator) -> None:
        """Score a batch."""
        for sample, output in zip(list(engine.state.batch), list(engine.state.output), strict=True):
            item = self.items[int(sample["index"])]
            predicted, mask = (output["pred"] >= self.threshold).float()[None], output["label"][None]
            hd95 = torch.tensor(float("nan"))
            if predicted.any() and mask.any():
                hd95 = compute_hausdorff_distance(predicted, mask, include_background=True, percentile=95)
            image = Path(item["image"]).relative_to(Path(self.dataset_dir).resolve()).as_posix()
            facts = {"image": image, "patient": item["patient"], "lesion": item.get("lesion")}
            dice = compute_dice(predicted, mask, ignore_empty=True).item()
            share = predicted.mean().item()
            self.rows.append({**facts, "dice": dice, "hd95": hd95.item(), "predicted": share})

    def write(self, engine: Engine) -> None:
        """Write all files."""
        table = pd.DataFrame(self.rows)
        write_table(self.output_dir / "segmentation.csv", table)
        found = evaluate_segmentation(table, self.resampling)
        facts = {**result_facts(self.trained, self.trained.calibration), "data": describe(self.dataset_dir)}
        write_json(self.output_dir / "segmentation.json", {**facts, "split": self.split, **found})
        write_page(
            self.output_dir / "report.html",
            "Segmentation of lesions",
            f"Evaluation on the {self.split} split of {facts['data']['name']}",
            self._results(found),
            self._draw(table),
            {"Data": found["counts"], "Model": facts["model"], "Software": facts["provenance"]},
            DEMONSTRATION * facts["data"]["generated"],
        )
        logger.info("Dice per lesion %s; %s", estimate_text(found["levels"]["lesion"]["dice"]), self.output_dir)

    def _results(self, found: Mapping[str, Any]) -> str:
        rows = {f"per {level}": list(scores.values()) for level, scores in found["levels"].items()}
        notes = [
            f"A pixel is predicted at a probability of {self.threshold:g} or more. HD95 is of the lesions with a "
            "prediction; a lesion's score is the mean over its views.",
            f"{interval_note(found['bootstrap'])}.",
            "Masks of a table of boxes are the boxes, filled: no lesion fills its box, so Dice cannot reach 1.",
        ]
        if self.split != "test":
            notes.append(f"This is the {self.split} split, which the training used: only a test split is valid.")
        free = {"images without a lesion": [found["false_alarms"]]}
        return estimate_table(list(SCORES.values()), rows, notes) + estimate_table(["with a prediction"], free)

    def _draw(self, table: pd.DataFrame) -> list[Picture]:
        worst = table["dice"].dropna().sort_values().head(self.num_pictures)
        if worst.empty:
            return []
        panels = [self._panel(index, dice) for index, dice in worst.items()]
        path, caption = self.output_dir / "worst.png", "The lowest Dice first. Green: lesion. Red: prediction"
        plot_masks(panels, path, caption)
        return [Picture(path, caption, wide=True)]

    def _panel(self, index: Any, dice: float) -> MaskPanel:
        sample = self.dataset[int(index)]
        image = torch.as_tensor(sample["image"])[None].to(self.evaluator.state.device)
        with torch.no_grad():
            predicted = self.evaluator.inferer(image, self.evaluator.network)[0, 0].cpu() >= self.threshold
        planes = [torch.as_tensor(sample[key])[0].cpu().float() for key in ("image", "label")] + [predicted.float()]
        if planes[0].ndim == 3:  # of a volume, the slice with most of the lesion
            depth = int(planes[1].sum(dim=(0, 1)).argmax())
            planes = [plane[..., depth] for plane in planes]
        shown, mask, found = (plane.numpy() for plane in planes)
        return MaskPanel(shown, mask, found, f"Dice {dice:.2f}\n{Path(self.items[int(index)]['image']).stem[-34:]}")
