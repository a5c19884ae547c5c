"""Data for the check where no prepared folder is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from miram.data.datalist import FILE_NAME, write_datalist
from miram.prepare.prepared import write_png16
from studies.gpu_check.settings import CheckSettings


def data_of(settings: CheckSettings) -> Path:
    """The prepared folder; noise is made once."""
    if settings.dataset_dir is not None:
        return settings.dataset_dir
    folder = settings.output_dir / "noise"
    if not (folder / FILE_NAME).exists():
        make_noise(folder, 2 * settings.sizes.image_size + settings.sizes.image_size // 4)
    return folder


def make_noise(folder: Path, side: int, training: int = 48, validation: int = 8) -> None:
    """Write a prepared folder of smooth noise, `side` pixels square."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(training + validation, 1, 8, 8, generator=random)
    items = []
    for number, field_ in enumerate(torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)):
        items.append({"image": f"images/{number}.png", "mask": None, "patient": f"p{number}"})
        write_png16(folder / f"images/{number}.png", (field_[0] * 65535).numpy().astype(np.uint16))
    splits = {"training": items[:training], "validation": items[training:], "test": []}
    write_datalist(folder / FILE_NAME, {"name": "smooth noise", "generated": True, **splits})
