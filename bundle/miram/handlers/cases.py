"""Pictures of single images, overlaid with a map of what the network saw in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from miram.data.prediction_table import wrongness
from miram.data.tasks import Task
from miram.inference.calibrated import Calibration
from miram.inference.classifying import TrainedClassifier
from miram.visualize.attention import MapKind, attention_maps
from miram.visualize.contact_sheet import Case, plot_contact_sheet
from miram.visualize.html_report import Picture

MAP_NOTES = {
    "relevance": "Bright: patches that support the prediction (gradient-weighted attention); not a segmentation.",
    "attention": "Bright: where the network attended, whatever it predicted (attention rollout); not a segmentation.",
}


def draw_most_wrong(
    output_dir: Path,
    table: pd.DataFrame,
    trained: TrainedClassifier,
    dataset: Dataset[dict[str, Any]],
    calibration: Calibration,
    device: torch.device,
    count: int = 12,
    kind: MapKind = "relevance",
) -> list[Picture]:
    """
    Draw most_wrong.png: of the images with a wrong prediction, those whose probability is farthest from their label.

    Args:
        table: the predictions, in the order of the data.
        count: how many images at most; 0 draws nothing.

    Returns:
        the picture, or an empty list if no prediction is wrong.
    """
    path, task = output_dir / "most_wrong.png", trained.task
    probabilities = table[[f"prob_{name}" for name in task.scored]].to_numpy(dtype=float)
    wrong = wrongness(table, task, calibration.called(probabilities, task))
    worst = wrong.head(count)
    if worst.empty:
        path.unlink(missing_ok=True)  # of an earlier evaluation
        return []
    cases = [
        explained_case(
            torch.as_tensor(dataset[index]["image"])[None].to(device),
            trained,
            probabilities[index],
            calibration,
            kind,
            title=_case_title(table.loc[index], column, task),
            caption=Path(table.loc[index, "image"]).stem[-34:],
        )
        for index, column in zip(worst.index.to_list(), worst["column"].to_list(), strict=True)
    ]
    title = f"Wrong predictions, the farthest from the label first: {len(worst)} of {len(wrong)}"
    plot_contact_sheet(cases, path, title, MAP_NOTES[kind])
    return [Picture(path, f"{title}. {MAP_NOTES[kind]}", wide=True)]


def explained_case(
    image: torch.Tensor,
    trained: TrainedClassifier,
    probabilities: np.ndarray,
    calibration: Calibration,
    kind: MapKind,
    title: str,
    caption: str,
) -> Case:
    """An image (1, C, *spatial), on the network's device, with a map of what supports its probabilities (K,)."""
    network = trained.network
    output = torch.as_tensor(call_direction(probabilities, trained.task, calibration), device=image.device)[None]
    heat = attention_maps(network, network.encoder, image, output.float(), kind, network.pool == "token")[0]
    plane, heat = image[0, 0].cpu(), heat
    if plane.ndim == 3:  # for a volume, the slice where the map is hottest
        depth = int(heat.sum(dim=(0, 1)).argmax())
        plane = plane[..., min(int((depth + 0.5) * plane.shape[-1] / heat.shape[-1]), plane.shape[-1] - 1)]
        heat = heat[..., depth]
    return Case(plane.numpy(), heat.numpy(), title, caption)


def call_direction(probabilities: np.ndarray, task: Task, calibration: Calibration) -> np.ndarray:
    """
    The weight of each logit in what is explained, (K,).

    Multi-class: 1 for the most probable class. Otherwise 1 for each class that was called; if none was, -1 for all, to
    show the evidence against them.
    """
    called = calibration.called(probabilities, task)
    return called.astype(float) if called.any() else -np.ones(len(probabilities))


def readable(name: str) -> str:
    """A class's name as a person would write it."""
    return name.replace("_", " ").lower()


def _case_title(values: pd.Series, column: int, task: Task) -> str:
    """The label, and what was predicted."""
    name = task.scored[column]
    short = readable(name)
    if task.type == "multiclass":
        top = task.scored[int(values[[f"prob_{name}" for name in task.scored]].astype(float).argmax())]
        return f"is {short} (p = {values[f'prob_{name}']:.2f}),\npredicted {readable(top)}"
    truth = short if values[f"label_{name}"] == 1 else f"not {short}"
    if task.type == "binary" and values[f"label_{name}"] == 0:
        truth = readable(task.classes[0]) if len(task.classes) == 2 else truth
    return f"is {truth},\np({short}) = {values[f'prob_{name}']:.2f}"
