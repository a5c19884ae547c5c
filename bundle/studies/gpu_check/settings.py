"""How large the check is: the full one for a GPU, and a toy that runs anywhere; and its data where none are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miram.data.datalist import FILE_NAME, write_datalist
from miram.prepare.prepared import write_png16


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured."""

    encoder: str  # a name of :data:`studies.benchmark.step_cases.ENCODERS`
    image_size: int  # side of the encoder's image, in pixels; crops are twice as large
    batch_sizes: Sequence[int]  # images per step; the first is that of all steps, the others only of the default's
    seconds: float  # how long a step is repeated
    steps: int | None = None  # how many of the planned steps are measured; None is all
    backend: str = "inductor"  # of `torch.compile`
    overrides: dict[str, Any] = field(default_factory=dict)  # of `configs/pretrain.yaml`, for the pretraining


FULL = Sizes(
    "base",
    224,
    (256, 128, 512, 1024),
    2.0,
    overrides={"max_epochs": 2000, "warmup_epochs": 20, "val_interval": 50},
)
TOY = Sizes(
    "toy",
    32,
    (4, 2),
    0.05,
    steps=3,
    backend="eager",  # a compiler takes minutes, even for a toy
    overrides={
        "max_epochs": 3,
        "warmup_epochs": 1,
        "val_interval": 3,
        "batch_size": 4,
        "num_workers": 0,
        "image_size": [32, 32],
        "hidden_size": 48,
        "mlp_dim": 96,
        "num_layers": 1,
        "num_heads": 2,
        "decoders": [{"scale": scale, "hidden_size": 24, "num_layers": 1, "num_heads": 2} for scale in (1, 2)],
    },
)


@dataclass(frozen=True)
class CheckSettings:
    """What the check is run on."""

    device: torch.device
    output_dir: Path  # where results are written
    dataset_dir: Path | None = None  # a prepared folder of 2D crops; None makes one of smooth noise
    minutes: float = 6.0  # limit of the whole check
    sizes: Sizes = FULL  # how large it is


Record = Callable[[dict[str, Any]], None]
Part = Callable[[CheckSettings, Record, float], None]


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
    write_datalist(folder, {"name": "smooth noise", "generated": True, **splits})
