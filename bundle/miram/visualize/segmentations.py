"""Predicted masks over images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from miram.visualize.figures import save_figure


@dataclass(frozen=True)
class MaskPanel:
    """One image of a sheet."""

    image: np.ndarray  # (H, W), any range; one slice of a volume
    mask: np.ndarray  # (H, W) 0 or 1: the lesion, outlined in green
    predicted: np.ndarray  # (H, W) 0 or 1, outlined in red
    title: str  # above the image


def plot_masks(panels: Sequence[MaskPanel], path: str | os.PathLike[str], title: str, columns: int = 6) -> None:
    """Draw images in rows, in reading order, at least one."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.5 * max(columns, 2.5), 2.8 * rows + 0.8), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        axis.imshow(panel.image, cmap="gray")
        for values, color in ((panel.mask, "lime"), (panel.predicted, "red")):
            if values.min() < values.max():
                axis.contour(values, [0.5], colors=color, linewidths=0.8)
        axis.set_title(panel.title, fontsize="x-small")
    save_figure(figure, path, dpi=110)
