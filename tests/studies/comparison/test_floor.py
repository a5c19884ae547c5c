"""The floor predicts the test split, from the same labels as the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from miram.data.datalist import load_split
from miram.prepare.prepared import write_png16
from studies.comparison.floor import features, run_floor


@pytest.mark.parametrize("kind", ["floor", "handmade"])
def test_it_finds_what_is_plain_to_see(labelled: Path, tmp_path: Path, kind: str) -> None:
    run_floor(labelled, tmp_path / "floor", kind, "pathology", label_fraction=0.5)
    table = pd.read_csv(tmp_path / "floor/predictions.csv")
    assert list(table["patient"]) == [f"p{n}" for n in range(36, 60)]
    assert roc_auc_score(table["label_MALIGNANT"], table["prob_MALIGNANT"]) > 0.98


def test_a_class_that_nobody_has_gets_one_probability(labelled: Path, tmp_path: Path) -> None:
    run_floor(labelled, tmp_path / "floor", "floor", "mass_margins")
    table = pd.read_csv(tmp_path / "floor/predictions.csv")
    assert table["prob_OBSCURED"].tolist() == pytest.approx([1 / 26] * 24, abs=1e-6)  # (0 + 1) / (24 + 2)
    assert roc_auc_score(table["label_SPICULATED"], table["prob_SPICULATED"]) == 1.0


def test_features_are_brightness_size_and_thumbnail(labelled: Path, tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.uint16)
    image[:4] = 65535
    write_png16(tmp_path / "image.png", image)
    found = features([{"image": str(tmp_path / "image.png"), "mask": str(tmp_path / "image.png"), "zoom": 0.5}], 2)
    expected = [0.5, np.log(33), np.log(0.5), 1.0, 1.0, 0.0, 0.0]
    assert found[0].tolist() == pytest.approx(expected)
    assert features(load_split(labelled, "test"), 4).shape == (24, 3 + 16)
