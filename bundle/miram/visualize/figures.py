"""What all pictures share: sheets of panels, and saving without a display, completely or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miram.files import atomic_write

_DRAWING = threading.Lock()  # matplotlib shares fonts and settings between figures


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> None:
    """Write a figure as PNG, without changing global state of matplotlib. Threads draw one after the other."""
    FigureCanvasAgg(figure)
    with _DRAWING, atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


class Painter:
    """Draws in a thread of its own while training goes on; an error of drawing is raised by the next call."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=1)
        self.drawing: Future[None] | None = None

    def draw(self, plot: Callable[..., None], *args: Any) -> None:
        """Call `plot`, which may read its arguments later than this method returns."""
        self.finish()
        self.drawing = self.pool.submit(plot, *args)

    def finish(self) -> None:
        """Wait until the last picture is written."""
        if self.drawing is not None:
            self.drawing.result()


def sheet(
    count: int, columns: int, panel: tuple[float, float], margin: float, title: str, note: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure with a place without axes for each of `count` panels of that width and height in inches, in rows."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (panel[0] * max(columns, 2.5), panel[1] * rows + margin)  # wide enough for the title
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize="small")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.set_axis_off()
    return figure, axes
