"""How every picture is made: without a display, and written whole or not at all."""

from __future__ import annotations

import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from miram.files import atomic_write


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> None:
    """
    Write a figure as PNG. No global state of matplotlib is touched.

    Args:
        figure: the figure.
        path: the file to make or replace.
        dpi: dots per inch.
    """
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
