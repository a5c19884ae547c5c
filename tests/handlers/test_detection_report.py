import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from miram.handlers.detection_report import Candidates, write_candidates
from miram.inference.views import View

BOXES = np.array([[10.0, 20, 30, 60], [0, 0, 4, 2]])


@pytest.fixture
def images():
    view = View("one.dcm", Path("one.dcm"), {"patient": "p", "laterality": "LEFT", "view": "CC", "hash": "secret"})
    one = Candidates.of_view(view, (100, 50), (0.1, 0.2), BOXES, np.array([0.9, 0.4]))
    none = Candidates("none.png", (10, 20), (None, None), np.zeros((0, 4)), np.zeros(0), {})
    other = Candidates("other.png", (10, 20), (None, None), BOXES[1:], np.array([0.8]), {"laterality": "RIGHT"})
    return [one, none, other]


def test_a_candidate_has_a_row_with_its_rank_and_its_size_in_pixels_and_mm(tmp_path, images):
    write_candidates(tmp_path, images, [[True, False], [], [False]])
    table = pd.read_csv(tmp_path / "candidates.csv")
    assert table["image"].tolist() == ["one.dcm", "one.dcm", "other.png"]
    assert table["rank"].tolist() == [1, 2, 1]
    assert table.loc[0, ["x", "y", "width", "height"]].tolist() == [10, 20, 20, 40]
    np.testing.assert_allclose(table["width_mm"], [20 * 0.2, 4 * 0.2, np.nan])
    np.testing.assert_allclose(table["height_mm"], [40 * 0.1, 2 * 0.1, np.nan])
    assert table["hit"].tolist() == [True, False, False]
    assert list(table.columns[-3:]) == ["patient", "laterality", "view"]
    assert table["laterality"].tolist() == ["LEFT", "LEFT", "RIGHT"]


def test_the_coco_file_lists_images_without_a_candidate_too(tmp_path, images):
    write_candidates(tmp_path, images)
    assert "hit" not in pd.read_csv(tmp_path / "candidates.csv")
    coco = json.loads((tmp_path / "candidates.json").read_text())
    assert [(one["file_name"], one["width"], one["height"]) for one in coco["images"]] == [
        ("one.dcm", 50, 100),
        ("none.png", 20, 10),
        ("other.png", 20, 10),
    ]
    assert [(one["id"], one["image_id"]) for one in coco["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    assert coco["annotations"][0]["bbox"] == [10, 20, 20, 40]
    assert coco["annotations"][0]["area"] == 800
