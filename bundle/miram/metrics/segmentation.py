"""How well masks fit, with intervals over patients."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from miram.metrics.bootstrap import Bootstrap, Estimate, Support, estimate_all
from miram.metrics.weighted import mean

SCORES = {"dice": "Dice", "hd95": "HD95 in pixels (lower is better)", "touched": "share touched by the prediction"}


def evaluate_segmentation(table: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    """
    The mean of each score over images and over lesions, and how often there is a prediction where there is no lesion.

    Args:
        table: a row per image: "patient", "lesion" (a name, or missing: the image counts as a lesion of its own),
            "dice" (NaN without a lesion), "hd95" (NaN also without a prediction) and "predicted", the share of pixels.

    Returns:
        ready for JSON: {"levels": {"image" or "lesion": {score: E}}, "false_alarms": E, "counts", "bootstrap"}, where E
        is :class:`miram.metrics.bootstrap.Estimate` as a dictionary. A lesion's score is the mean over its views.
        "touched" is the share with a Dice above 0.
    """
    images = table[table["dice"].notna()].assign(touched=lambda rows: (rows["dice"] > 0).astype(float))
    names = images["lesion"].where(images["lesion"].notna(), images["image"])
    lesions = images.assign(lesion=names).groupby(["patient", "lesion"], as_index=False)[list(SCORES)].mean()
    free = table[table["dice"].isna()]
    levels = {"image": images, "lesion": lesions}
    return {
        "levels": {
            level: {name: asdict(_mean(rows[name], rows["patient"], bootstrap)) for name in SCORES}
            for level, rows in levels.items()
        },
        "false_alarms": asdict(_mean((free["predicted"] > 0).astype(float), free["patient"], bootstrap)),
        "counts": {
            "images": len(table),
            "images without a lesion": len(free),
            "lesions": len(lesions),
            "patients": table["patient"].nunique(),
        },
        "bootstrap": {**asdict(bootstrap), "unit": "patient"},
    }


def _mean(values: pd.Series, patients: pd.Series, bootstrap: Bootstrap) -> Estimate:
    """The mean of the values that are known."""
    known = values.notna().to_numpy()
    numbers, names = values.to_numpy(float)[known], patients.to_numpy(object)[known].astype(str)
    number = len(np.unique(names))
    support = Support(len(numbers), number, {"patients": number})
    found = estimate_all(lambda weights: {"mean": mean(numbers, weights)}, names, support, bootstrap)
    return found["mean"]
