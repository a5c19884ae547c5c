"""Prediction tables made for the tests: two views a lesion, one lesion a patient, labels of the patient."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_table(
    task_type: str, n_classes: int = 3, patients: int = 60, seed: int = 0, unknown: float = 0.1, signal: float = 1.5
) -> tuple[pd.DataFrame, list[str]]:
    """A table and its class names; labels depend on the seed 0 alone, probabilities on `seed`, rounded to make ties."""
    labels_rng, rng = np.random.default_rng(0), np.random.default_rng([1, seed])
    names = [f"c{index}" for index in range(n_classes)] if task_type != "binary" else ["positive"]
    rows = [(f"p{p}_{view}", f"p{p}", f"l{p}") for p in range(patients) for view in range(2)]
    table = pd.DataFrame(rows, columns=["image", "patient", "lesion"])
    if task_type == "multiclass":
        labels = np.eye(n_classes)[labels_rng.integers(n_classes, size=patients)]
        hidden = labels_rng.random((2 * patients, 1)) < unknown
    else:
        labels = (labels_rng.random((patients, len(names))) < 0.4).astype(float)
        hidden = labels_rng.random((2 * patients, len(names))) < unknown
    labels = labels.repeat(2, axis=0)
    logits = rng.normal(size=labels.shape) + signal * (labels - 0.5)
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True) if task_type == "multiclass" else odds / (1 + odds)
    table[[f"label_{name}" for name in names]] = np.where(hidden, np.nan, labels)
    decimals = 6 if task_type == "multiclass" else 2
    table[[f"prob_{name}" for name in names]] = probabilities.round(decimals)
    return table, names
