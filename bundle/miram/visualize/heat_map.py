"""A risk map over its mammogram."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from miram.visualize.figures import reduced, save_figure

COLORS = "inferno"


def plot_risk_map(
    image: np.ndarray,
    probability: np.ndarray,
    places: Sequence[tuple[int, int]],
    path: str | os.PathLike[str],
    title: str,
    quantity: str,
    threshold: float,
    note: str = "",
) -> None:
    """
    Draw a mammogram, and next to it the same with its map, on a scale from 0 to 1 that is the same in every picture.

    Args:
        image: (H, W), any range.
        probability: (H, W) from 0 to 1, on the same pixels.
        places: rows and columns, numbered in this order.
        quantity: what the map is the probability of; written next to the scale.
        threshold: outlined in the map.
    """
    height, width = image.shape
    figure = Figure(figsize=(3.0 + 11.0 * min(1.0, width / height), 7.6), layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize="small")
    plain, mapped = figure.subplots(1, 2)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    shown, heat = reduced(image, 1000), reduced(probability, 1000)
    for axis in (plain, mapped):
        axis.imshow(shown, cmap="gray", extent=extent)
        axis.set_axis_off()
    colors = ScalarMappable(Normalize(0, 1), COLORS)
    mapped.imshow(colors.to_rgba(heat), alpha=0.65 * np.sqrt(heat), extent=extent)
    if heat.min() < threshold <= heat.max():
        mapped.contour(heat, [threshold], colors="cyan", linewidths=0.8, extent=extent, origin="upper")
    _number(mapped, places)
    bar = figure.colorbar(colors, ax=mapped, label=f"probability of {quantity}", shrink=0.8)
    bar.ax.axhline(threshold, color="cyan", linewidth=1.5)
    save_figure(figure, path, dpi=110)


def _number(axis: Axes, places: Sequence[tuple[int, int]]) -> None:
    """A cross and a number at each place."""
    for number, (row, column) in enumerate(places, start=1):
        axis.plot(column, row, "+", color="lime", markersize=7)
        axis.annotate(
            str(number), (column, row), (4, 4), textcoords="offset points", color="lime", fontsize="small", clip_on=True
        )
