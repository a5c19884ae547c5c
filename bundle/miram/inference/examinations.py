"""A user's views: found, described by the encoder one at a time, and joined into breasts and examinations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miram.data.examinations import Breast, group_breasts
from miram.data.tasks import Task
from miram.inference.inputs import Inputs, reduce_to
from miram.inference.tiles import TileEncoder, Tiles
from miram.progress import progress_bar
from miram.readers.formats import without_suffix

SIDES = {"L": "LEFT", "LEFT": "LEFT", "R": "RIGHT", "RIGHT": "RIGHT"}
VIEWS = ("CC", "MLO", "ML", "LM", "XCCL", "XCCM")


@dataclass(frozen=True)
class ExamView:
    """A view of a user."""

    path: str  # of its file
    patient: str  # a number, or what its file name says; nothing of a DICOM header
    study: str | None  # a number, None if unknown
    laterality: str | None  # "LEFT", "RIGHT" or None
    view: str | None  # "CC", "MLO" or another, or None
    features: torch.Tensor  # (N, F) of its tiles, float16
    tiles: Tiles  # where they are


def describe_views(inputs: Inputs, encoder: TileEncoder, prepared: Mapping[str, Any]) -> list[ExamView]:
    """
    Read views one at a time, as the training views were prepared, and compute the features of their tiles.

    Args:
        prepared: how the training views were prepared: larger ones are downsampled to "crop_size".
    """
    patients, studies, views = Numbers("patient"), Numbers("study"), []
    for index, name in enumerate(progress_bar(len(inputs.names), "features", unit="views", iterable=inputs.names)):
        image = inputs.read(index)
        pixels = as_prepared(image.pixels, prepared)
        tiles = encoder.tiles(pixels)
        features = torch.from_numpy(encoder.features(pixels, tiles))
        said = said_by_name(name)
        patient = patients.of(image.patient or image.study) or said["patient"]
        side, view = image.laterality or said["laterality"], image.view or said["view"]
        views.append(
            ExamView(inputs.items[index]["image"], str(patient), studies.of(image.study), side, view, features, tiles)
        )
    return views


def as_prepared(pixels: np.ndarray, prepared: Mapping[str, Any]) -> np.ndarray:
    """A view (H, W) as large as in training: a larger one is downsampled, its proportions kept."""
    size = prepared.get("crop_size")
    return reduce_to(pixels, [size, size]) if size else pixels


def join_views(views: Sequence[ExamView], task: Task) -> list[Breast]:
    """The views of each patient, study and side, joined to breasts whose label is unknown."""
    items = [
        {
            "image": view.path,
            "patient": view.patient,
            "study": view.study,
            "laterality": view.laterality,
            "view": view.view,
            task.key: None,
        }
        for view in views
    ]
    return group_breasts(items, task)


@dataclass(eq=False)
class Numbers:
    """Names that reveal nothing of what they stand for: numbers in the order of first use."""

    kind: str  # the first part of a name
    given: dict[str, str] = field(default_factory=dict)  # the names so far, by identity

    def of(self, identity: str | None) -> str | None:
        """The name of an identity; None for None."""
        if identity is None:
            return None
        return self.given.setdefault(identity, f"{self.kind}_{len(self.given) + 1:04d}")


def said_by_name(name: str) -> dict[str, str | None]:
    """
    What a file's name says, for files without a DICOM header: `anna_L_CC.png`, `12/right_mlo.png`, `12_LMLO.png`.

    Returns:
        "laterality" and "view", None where it does not say; "patient", what is left of the name, or of the folder's.
    """
    path = without_suffix(name)
    side, view, rest = None, None, []
    for part in re.split(r"[^A-Za-z0-9]+", path.name):
        word = part.upper()
        joined = re.fullmatch(f"([LR])({'|'.join(VIEWS)})", word)
        if joined:
            side, view = side or SIDES[joined[1]], view or joined[2]
        elif word in SIDES and side is None:
            side = SIDES[word]
        elif word in VIEWS and view is None:
            view = word
        else:
            rest.append(part)
    folder = path.parent.as_posix()
    parts = ([] if folder == "." else [folder]) + (["_".join(rest)] if side and any(rest) else [])
    return {
        "laterality": side,
        "view": view,
        "patient": "/".join(parts) or (Path(name).stem if not side else "unnamed"),
    }
