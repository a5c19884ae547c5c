"""Cases side by side: an image, and below it what the network attended to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.nn import functional

from miram.visualize.figures import save_figure


@dataclass(frozen=True)
class Case:
    """One image of a sheet."""

    image: np.ndarray  # (H, W); one slice of a volume
    heat: np.ndarray | None  # (h, w) on the grid of patches, not negative, or None
    title: str  # the most important facts
    caption: str = ""  # which image it is


def plot_contact_sheet(
    cases: Sequence[Case], path: str | os.PathLike[str], title: str, note: str = "", columns: int = 6
) -> None:
    """Draw cases in rows: each image, and below it the same image with its heat map, if any case has one."""
    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    per_case = 2 if any(case.heat is not None for case in cases) else 1
    width = 2.3
    size = (width * max(columns, 2.5), (per_case * width + 0.5) * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize="small")
    axes = figure.subplots(per_case * rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for index, case in enumerate(cases):
        row, column = divmod(index, columns)
        _draw_image(axes[per_case * row][column], case)
        if per_case == 1:
            axes[row][column].set_title(f"{case.title}\n{fill(case.caption, 32)}", fontsize="xx-small")
        else:
            _draw_overlay(axes[2 * row + 1][column], case)
            axes[2 * row + 1][column].set_title(case.caption, fontsize="xx-small", color="dimgray")
    save_figure(figure, path, dpi=120)


def plot_case(case: Case, path: str | os.PathLike[str], note: str = "") -> None:
    """Draw one case: the image, and next to it the same image with its heat map."""
    figure = Figure(figsize=(8, 4.7), layout="constrained")
    figure.suptitle(f"{case.caption}\n{case.title}", fontsize="medium")
    figure.supxlabel(note, fontsize="small")
    for axis in (axes := figure.subplots(1, 2)):
        axis.set_axis_off()
    axes[0].imshow(case.image, cmap="gray")
    _draw_overlay(axes[1], case)
    save_figure(figure, path, dpi=120)


def overlay(image: np.ndarray, heat: np.ndarray, strength: float = 0.75) -> np.ndarray:
    """
    Overlay a heat map on an image; hotter places are more opaque.

    Args:
        image: (H, W), any range.
        heat: (h, w), not negative; its maximum gets the hottest colour.
        strength: the opacity of the hottest place.

    Returns:
        (H, W, 3) from 0 to 1.
    """
    gray = _unit(image.astype(np.float64))
    warm = _unit(heat.astype(np.float64), low=0.0)
    smooth = functional.interpolate(torch.from_numpy(warm)[None, None], size=gray.shape, mode="bilinear")[0, 0].numpy()
    opacity = strength * np.sqrt(smooth)[..., None]
    return (1 - opacity) * gray[..., None] + opacity * colormaps["inferno"](smooth)[..., :3]


def _draw_image(axis: Axes, case: Case) -> None:
    axis.imshow(case.image, cmap="gray")
    axis.set_title(case.title, fontsize="small")


def _draw_overlay(axis: Axes, case: Case) -> None:
    if case.heat is not None:
        axis.imshow(overlay(case.image, case.heat))


def _unit(values: np.ndarray, low: float | None = None) -> np.ndarray:
    """Stretch values to 0..1; all zero if they are constant."""
    low = float(values.min()) if low is None else low
    span = float(values.max()) - low
    return (values - low).clip(0) / (span if span > 0 else 1.0)
