"""Views with a bright square as lesion, prepared with their boxes, as detection needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from miram.prepare.folder import FolderSettings, prepare_folder
from miram.prepare.image_crops import CropSettings
from miram.prepare.prepared import write_png16

SHAPE, SIDE = (150, 125), 24  # of a view, and of its lesion, in pixels
SPLITS = ("training", "training", "training", "training", "validation", "test")


def lesion_view(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A view, and its lesion's x, y, width and height."""
    view = np.zeros(SHAPE, np.uint16)
    view[8:-8, :112] = rng.integers(10_000, 20_000, size=(SHAPE[0] - 16, 112))
    row, column = int(rng.integers(16, 110)), int(rng.integers(8, 80))
    view[row : row + SIDE, column : column + SIDE] = 60_000
    return view, (column, row, SIDE, SIDE)


def make_lesion_views(folder: Path, patients: int = 12) -> Path:
    """`views`, `boxes.csv` and the prepared folder `data`; each patient has two views with a lesion."""
    rng, rows = np.random.default_rng(0), []
    for number in range(2 * patients):
        view, box = lesion_view(rng)
        write_png16(folder / f"views/{number:02d}.png", view)
        patient = number // 2
        rows.append([f"{number:02d}.png", f"p{patient}", SPLITS[patient % len(SPLITS)], "1", *box])
    names = ["image", "patient", "split", "lesion", "x", "y", "width", "height"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "boxes.csv", index=False)
    crops = CropSettings(crops="both", crop_size=32, crops_per_image=1)
    prepare_folder(folder / "views", folder / "data", FolderSettings(crops, boxes_csv=folder / "boxes.csv", workers=0))
    return folder
