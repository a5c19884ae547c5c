"""A trained detector: its candidates in a view, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miram.engines.detection import FrocScore, find_candidates
from miram.errors import InputError
from miram.files import file_sha256
from miram.inference.token_maps import TokenMapEncoder
from miram.inference.windows import is_number
from miram.networks.detector import LesionDetector
from miram.weights.on_encoder import DETECTOR, content_on_encoder, load_on_encoder

_OF_VIEWS = {"intensity", "smallest_view"}


@dataclass(frozen=True)
class DetectorModel:
    """What is needed to find lesions in a view."""

    network: LesionDetector  # in evaluation mode
    encoder: TokenMapEncoder  # describes views
    # by a rate of false alarms per view, the score above which there were at most so many on the validation views
    thresholds: Mapping[str, float]
    prepared: Mapping[str, Any]  # see :func:`miram.inference.token_map_files.prepared_views`
    provenance: Mapping[str, Any]  # where it comes from
    path: Path  # its file
    sha256: str  # of the file

    @property
    def facts(self) -> dict[str, Any]:
        """What goes with every result."""
        return {"file": self.path.name, "sha256": self.sha256, **self.provenance}

    def find(self, token_map: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """
        The candidates in a view.

        Args:
            token_map: (D, rows, columns), made by the encoder.
            shape: (H, W) of the view in pixels: a map may end behind it, but no box does.

        Returns:
            boxes (N, 4), x0, y0, x1, y1 in pixels, and scores (N,) from 0 to 1, the highest first.
        """
        device = next(self.network.parameters()).device
        maps = torch.from_numpy(token_map.astype(np.float32))[None].to(device)
        boxes, scores = find_candidates(self.network, maps)[0]
        return np.clip(boxes, 0, [shape[1], shape[0]] * 2), scores

    def threshold(self, false_alarms: float) -> float:
        """
        The score above which there were at most so many false alarms per view on the validation views.

        Raises:
            InputError: if the rate is not one of those for which the model knows it.
        """
        found = {float(rate): score for rate, score in self.thresholds.items()}
        if not is_number(false_alarms) or float(false_alarms) not in found:
            rates = ", ".join(self.thresholds)
            raise InputError(f"false_alarms is {false_alarms}; give one of {rates}, the rates that the model knows")
        return float(found[float(false_alarms)])


def detector_content(
    network: LesionDetector,
    encoder: TokenMapEncoder,
    froc: FrocScore,
    prepared: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """
    The content of `detector.pt`, in plain values and tensors.

    Args:
        froc: of the validation that has just ended.
        prepared: see :func:`miram.inference.token_map_files.prepared_views`.
    """
    facts = {
        "maps": encoder.settings,
        "thresholds": froc.thresholds(),
        "prepared": dict(prepared),
        "provenance": dict(provenance),
    }
    return content_on_encoder(DETECTOR, network, encoder.network, facts)


def load_detector(
    path: str | os.PathLike[str], device: torch.device | str, batch_size: int = 64, precision: str = "float32"
) -> DetectorModel:
    """
    Read a detector; it goes to the device, and its encoder computes in a precision, whatever that of training was.

    Raises:
        InputError: if there is no such file, or it is damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no detector {path}: train one with configs/detector.yaml, or give --model")
    network, encoder, content = load_on_encoder(path, DETECTOR)
    prepared, thresholds = content["prepared"], content["thresholds"]
    if not (prepared.keys() >= _OF_VIEWS and all(map(is_number, thresholds.values()))):
        raise InputError(f"{path} is damaged: its prepared views or its thresholds are not complete")
    return DetectorModel(
        network.to(device),
        TokenMapEncoder.restored(path, encoder.to(device), content["maps"], batch_size=batch_size, precision=precision),
        thresholds,
        prepared,
        content["provenance"],
        path,
        file_sha256(path),
    )
