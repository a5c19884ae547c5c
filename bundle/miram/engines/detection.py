"""What the training of a detector adds to the steps: batches of token maps, candidates, and the FROC score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents, PrepareBatch

from miram.errors import InputError
from miram.metrics.detection import RATES, ImageFindings, froc_score, threshold_at
from miram.networks.detector import LesionDetector


class PrepareDetectionBatch(PrepareBatch):
    """Move a batch of token maps and boxes to the device."""

    def __call__(  # type: ignore[override]
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, list[torch.Tensor], tuple[()], dict[str, Any]]:
        """
        Args:
            batchdata: "map" (B, D, H, W) and "boxes" (B, M, 4), where rows of NaN are none.
            device: where the network runs.
            non_blocking: whether copies from pinned memory may overlap with computation.

        Returns:
            the maps, the boxes of each view, and no further arguments for the network.
        """
        boxes = [one[~one[:, 0].isnan()] for one in batchdata["boxes"]]
        maps = batchdata["map"].to(device=device, non_blocking=non_blocking)
        return maps, [one.to(device=device, non_blocking=non_blocking) for one in boxes], (), {}


@torch.no_grad()
def find_candidates(network: LesionDetector, maps: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    The candidates of views whose centre is in the breast.

    Args:
        network: in evaluation mode.
        maps: (B, D, H, W) on its device; the last channel is 1 in the breast.

    Returns:
        for each view boxes (N, 4), x0, y0, x1, y1 in pixels, and scores (N,), the highest first.
    """
    found = []
    for (boxes, scores), breast in zip(network.candidates(network(maps)), maps[:, -1], strict=True):
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / network.pixels_per_token
        columns, rows = (centers[:, axis].long().clamp(0, breast.shape[1 - axis] - 1) for axis in (0, 1))
        inside = breast[rows, columns] > 0
        found.append((boxes[inside].double().cpu().numpy(), scores[inside].double().cpu().numpy()))
    return found


def detection_step(engine: SupervisedEvaluator, batch: dict[str, Any]) -> dict[str, Any]:
    """
    One iteration of validation: find the candidates of a batch.

    Returns:
        "candidates", see :func:`find_candidates`, and "index", of the views.
    """
    maps, *_ = engine.prepare_batch(batch, engine.state.device, engine.non_blocking)
    network: Any = engine.network.eval()
    found = find_candidates(network, maps)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return {"candidates": found, "index": batch["index"]}


class FrocScore(Metric):
    """
    The FROC score per lesion: the mean sensitivity at 0.25 to 4 false alarms per view.

    Args:
        items: of the views, in the data set's order: "patient", "boxes" (M, 4) and "lesions", their names.

    Raises:
        InputError: if no view has a box.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        if np.isnan([item["boxes"] for item in items]).all():
            raise InputError("no validation view has a box of a lesion: the best epoch could not be chosen")
        self.items = items
        super().__init__(output_transform=lambda output: (output["candidates"], output["index"]))

    def reset(self) -> None:
        """Forget all views."""
        self.found: list[ImageFindings] = []

    def update(self, output: tuple[Any, torch.Tensor]) -> None:
        """Add the candidates of a batch, and the views' indices."""
        candidates, indices = output
        for (boxes, scores), index in zip(candidates, indices.tolist(), strict=True):
            item = self.items[index]
            known = item["boxes"][~np.isnan(item["boxes"][:, 0])]
            self.found.append(ImageFindings(item["patient"], boxes, scores, known, tuple(item["lesions"])))

    def compute(self) -> float:
        """The score over all views."""
        return froc_score(self.found)

    def thresholds(self) -> dict[str, float]:
        """By a rate of false alarms per view, the score above which there were at most so many."""
        return {f"{rate:g}": max(threshold_at(self.found, rate), 0.0) for rate in RATES}
