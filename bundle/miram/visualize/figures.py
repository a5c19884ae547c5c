"""What all pictures share: sheets of panels, and saving without a display, completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.nn import functional

from miram.files import atomic_write

_PAINTING = ThreadPoolExecutor(max_workers=1)  # one for all: matplotlib shares fonts and settings between figures


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> None:
    """Write a figure as PNG, without changing global state of matplotlib."""
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """An image (H, W) of which a picture shows at most so many pixels along the longest side, by area averaging."""
    scale = longest / max(image.shape)
    if scale >= 1:
        return image
    size = [max(1, round(length * scale)) for length in image.shape]
    values = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    return functional.interpolate(values[None, None], size=size, mode="area")[0, 0].numpy()


class Painter:
    """Draws in another thread while training goes on. An error is raised by the next call, if there is one."""

    def __init__(self) -> None:
        self.drawing: Future[None] | None = None

    def draw(self, plot: Callable[..., None], *args: Any) -> None:
        """Call `plot`, which may read its arguments later than this method returns."""
        self.finish()
        self.drawing = _PAINTING.submit(plot, *args)

    def finish(self) -> None:
        """Wait until the last picture is written."""
        drawing, self.drawing = self.drawing, None
        if drawing is not None:
            drawing.result()


def grid(
    count: int, columns: int, panel: tuple[float, float], margin: float = 0.0, least: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """
    A figure with `count` axes in rows.

    Args:
        columns: in a row, at most.
        panel: width and height of an axes in inches.
        margin: inches above and below all of them.
        least: width of the figure in panels, at least.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(panel[0] * max(columns, least), panel[1] * rows + margin), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def sheet(
    count: int, panel: tuple[float, float], margin: float, title: str, note: str = ""
) -> tuple[Figure, list[Axes]]:
    """A :func:`grid` of images, and in its margin the title above and the note below, wrapped."""
    figure, axes = grid(count, 6, panel, margin, least=2.5)
    width = figure.get_figwidth()
    figure.suptitle(fill(title, int(9 * width)))  # letters per inch
    figure.supxlabel(fill(note, int(15 * width)), fontsize="small")
    for axis in axes:
        axis.set_axis_off()
    return figure, axes
