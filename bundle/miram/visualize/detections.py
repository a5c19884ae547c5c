"""Lesions and what was found of them: candidates on whole views, a FROC curve, predicted masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from miram.visualize.figures import reduced, save_figure, sheet


@dataclass(frozen=True)
class Panel:
    """One view of a sheet."""

    image: np.ndarray  # (H, W), 0..65535
    lesions: np.ndarray  # (M, 4) boxes x0, y0, x1, y1, drawn in green
    candidates: np.ndarray  # (N, 4) boxes, drawn in red with their scores
    scores: np.ndarray  # (N,)
    title: str  # above the view


def plot_views(panels: Sequence[Panel], path: str | os.PathLike[str], title: str, note: str = "") -> None:
    """Draw views in rows, in reading order, at least one."""
    figure, axes = sheet(len(panels), (2.6, 4.2), 0.9, title, note)
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel)
    save_figure(figure, path, dpi=110)


def plot_froc(
    false_alarms: Sequence[float],
    sensitivity: Sequence[float],
    points: dict[float, tuple[float, float, float]],
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """
    Draw a FROC curve.

    Args:
        false_alarms: per image, ascending.
        points: at some rates of false alarms the sensitivity and the ends of its interval, NaN without one.
    """
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.step(false_alarms, sensitivity, where="post", color="tab:blue")
    for rate, (value, low, high) in points.items():
        axis.plot([rate, rate], [low, high], color="tab:blue", alpha=0.5, linewidth=3)
        axis.plot(rate, value, "o", color="tab:red", zorder=3)
    axis.set(xlim=(0, 8), ylim=(0, 1), xlabel="false alarms per image", ylabel="sensitivity", title=title)
    axis.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def _draw(axis: Axes, panel: Panel) -> None:
    height, width = panel.image.shape
    axis.imshow(reduced(panel.image, 700), cmap="gray", extent=(0, width, height, 0))
    axis.set_title(panel.title, fontsize="x-small")
    for box in panel.lesions:
        _outline(axis, box, "lime")
    for box, score in zip(panel.candidates, panel.scores, strict=True):
        _outline(axis, box, "red")
        axis.annotate(f"{score:.2f}", (box[0], box[1]), (0, 2), textcoords="offset points", color="red", fontsize=6)


def _outline(axis: Axes, box: np.ndarray, color: str) -> None:
    x0, y0, x1, y1 = box.tolist()
    axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=0.9))


@dataclass(frozen=True)
class MaskPanel:
    """One image of a sheet."""

    image: np.ndarray  # (H, W), any range; one slice of a volume
    mask: np.ndarray  # (H, W) 0 or 1: the lesion, outlined in green
    predicted: np.ndarray  # (H, W) 0 or 1, outlined in red
    title: str  # above the image


def plot_masks(panels: Sequence[MaskPanel], path: str | os.PathLike[str], title: str) -> None:
    """Draw images in rows, in reading order, at least one."""
    figure, axes = sheet(len(panels), (2.5, 2.8), 0.8, title)
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(panel.image, cmap="gray")
        for values, color in ((panel.mask, "lime"), (panel.predicted, "red")):
            if values.min() < values.max():
                axis.contour(values, [0.5], colors=color, linewidths=0.8)
        axis.set_title(panel.title, fontsize="x-small")
    save_figure(figure, path, dpi=110)
