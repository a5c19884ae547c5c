"""Whole views searched one by one: the highest regions of each view's risk map are kept, so that a run can go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from miram.errors import InputError
from miram.inference.risk_map import RiskMapInferer
from miram.inference.views import View, ViewRecords, Views
from miram.inference.windows import Region
from miram.progress import progress_bar

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
            self.records.save(view, self._record(view, probability, pixels))
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
