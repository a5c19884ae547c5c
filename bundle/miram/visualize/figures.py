"""Saving pictures: without a display, and completely or not at all."""

from __future__ import annotations

import os
import threading

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miram.files import atomic_write

_DRAWING = threading.Lock()  # matplotlib shares fonts and settings between figures


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> None:
    """
    Write a figure as PNG, without changing global state of matplotlib. Threads draw one after the other.

    Args:
        figure: the figure.
        path: the file to create or replace.
        dpi: dots per inch.
    """
    FigureCanvasAgg(figure)
    with _DRAWING, atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
