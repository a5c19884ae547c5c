"""A trained classifier of examinations: its probabilities per view and breast, and its file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from miram.data.examinations import Breast
from miram.data.tasks import Task
from miram.engines.exam import ExamScores
from miram.errors import InputError
from miram.files import file_sha256
from miram.inference.tiles import TileEncoder
from miram.metrics.calibration import fit_scaling
from miram.networks.exam_classifier import ExamClassifier
from miram.weights.backbone import save_weights_file
from miram.weights.on_encoder import EXAM, content_on_encoder, load_on_encoder

Scaling = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ExamModel:
    """What is needed to judge an examination."""

    network: ExamClassifier  # pools tiles and views
    encoder: TileEncoder  # describes tiles
    task: Task  # what is predicted, binary
    scaling: Scaling  # for "view" and "breast", factor and summand of the logits
    # for "view", "breast" and "patient", the probability at or above which the class is called
    thresholds: Mapping[str, float]
    prepared: Mapping[str, Any]  # how the training views were prepared
    provenance: Mapping[str, Any]  # where it comes from
    sha256: str | None = None  # of its file, if it has been read from one

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, completely or not at all."""
        facts = {
            "tiles": self.encoder.settings,
            "task": {**asdict(self.task), "classes": list(self.task.classes)},
            "scaling": {level: list(values) for level, values in self.scaling.items()},
            "thresholds": dict(self.thresholds),
            "prepared": dict(self.prepared),
            "provenance": dict(self.provenance),
        }
        save_weights_file(path, content_on_encoder(EXAM, self.network, self.encoder.network, facts))


def load_exam(
    path: str | os.PathLike[str], device: torch.device | str, batch_size: int = 64, precision: str = "float32"
) -> ExamModel:
    """
    Read a model; its encoder goes to the device, and computes in a precision, whatever that of training was.

    Raises:
        InputError: if there is no such file, or it is damaged or of another kind.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no model {path}: train one with configs/exam.yaml, or give --model")
    network, encoder, content = load_on_encoder(path, EXAM)
    return ExamModel(
        network,
        TileEncoder.restored(path, encoder.to(device), content["tiles"], batch_size=batch_size, precision=precision),
        Task(**content["task"]),
        {level: tuple(values) for level, values in content["scaling"].items()},
        content["thresholds"],
        content["prepared"],
        content["provenance"],
        file_sha256(path),
    )


def fit_exam_scaling(scores: ExamScores, breasts: Sequence[Breast], positive_weight: float) -> dict[str, Any]:
    """
    Factor and summand of the logits per view and per breast, fitted on validation breasts.

    Args:
        breasts: of the validation split; if no label is known, only the training's class balance is undone.
        positive_weight: how many times positives counted in training.
    """
    expected = (1.0, -math.log(positive_weight))
    given = {
        "view": (np.concatenate([*scores.views, []]), np.concatenate([*(one.view_labels for one in breasts), []])),
        "breast": (scores.breasts, np.array([breast.label for breast in breasts])),
    }
    return {level: _fit(*values, expected) for level, values in given.items()}


def breast_table(breasts: Sequence[Breast], scores: ExamScores, scaling: Scaling, task: Task) -> pd.DataFrame:
    """
    A row per breast.

    Returns:
        `image` (the breast's name), `patient`, `laterality`, `views` (how many), `label_<class>`, `prob_<class>`.
    """
    name = task.scored[0]
    return pd.DataFrame(
        {
            "image": [breast.name for breast in breasts],
            "patient": [breast.patient for breast in breasts],
            "laterality": [breast.views[0].get("laterality") for breast in breasts],
            "views": [len(breast.views) for breast in breasts],
            f"label_{name}": pd.Series([breast.label for breast in breasts], dtype=float).astype("Int64"),
            f"prob_{name}": scaled(scores.breasts, scaling["breast"]),
        }
    )


def view_table(breasts: Sequence[Breast], scores: ExamScores, scaling: Scaling, task: Task) -> pd.DataFrame:
    """
    A row per view.

    Returns:
        `image`, `patient`, `lesion` (the breast's name, so that lesions of the metrics are breasts), `view`,
        `label_<class>`, `prob_<class>`.
    """
    name = task.scored[0]
    rows = [(breast, item) for breast in breasts for item in breast.views]
    labels = np.concatenate([*(breast.view_labels for breast in breasts), []])
    return pd.DataFrame(
        {
            "image": [Path(item["image"]).name for _, item in rows],
            "patient": [breast.patient for breast, _ in rows],
            "lesion": [breast.name for breast, _ in rows],
            "view": [item.get("view") for _, item in rows],
            f"label_{name}": pd.Series(labels, dtype=float).astype("Int64"),
            f"prob_{name}": scaled(np.concatenate([*scores.views, []]), scaling["view"]),
        }
    )


def scaled(logits: np.ndarray, scaling: tuple[float, float]) -> np.ndarray:
    """Calibrated probabilities of logits."""
    return np.asarray(expit(logits * scaling[0] + scaling[1]), dtype=float)


def _fit(logits: np.ndarray, labels: np.ndarray, expected: tuple[float, float]) -> tuple[float, float]:
    if np.isnan(labels).all():
        return expected
    scale, bias = fit_scaling(
        logits.astype(float)[:, None], labels[:, None], "sigmoid", np.array(expected[:1]), np.array(expected[1:])
    )
    return float(scale[0]), float(bias[0])
