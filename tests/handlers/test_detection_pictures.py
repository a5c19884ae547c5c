from pathlib import Path

import numpy as np
import pytest

from miram.handlers import detection_pictures
from miram.inference.views import View
from miram.metrics.bootstrap import Bootstrap
from miram.metrics.detection import ImageFindings, evaluate_detection
from miram.prepare.prepared import write_png16

LESION, ELSEWHERE = [10.0, 10, 20, 20], [40.0, 40, 50, 50]


def findings(lesion, *candidates):
    """An image with or without a lesion, and candidates: (whether on the lesion, score)."""
    boxes = np.array([LESION if hit else ELSEWHERE for hit, _ in candidates]).reshape(-1, 4)
    scores, lesions = np.array([score for _, score in candidates]), np.array([LESION] * lesion).reshape(-1, 4)
    return ImageFindings("p", boxes, scores, lesions, ("a",) * lesion)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """A function that draws views; returns by picture the titles of its panels, and how many candidates they show."""
    sheets = {}

    def plot(panels, path, *texts):
        sheets[path.name] = [(panel.title, len(panel.scores)) for panel in panels]
        path.touch()

    monkeypatch.setattr(detection_pictures, "plot_views", plot)

    def run(images, **options):
        views = [View(f"{number}.png", tmp_path / f"{number}.png", {}) for number in range(len(images))]
        for view in views:
            write_png16(view.path, np.zeros((60, 60), np.uint16))
        metrics = evaluate_detection(images, Bootstrap(n_resamples=2))
        pictures = detection_pictures.draw_pictures(tmp_path, views, images, metrics, **options)
        return sheets, [Path(picture.path).name for picture in pictures]

    return run


def test_the_surest_hits_the_missed_lesions_and_the_highest_false_alarms_come_first(draw):
    images = [
        findings(1, (True, 0.7), (False, 0.2)),
        findings(1, (True, 0.9)),
        findings(1, (True, 0.3), (False, 0.6)),  # at most one false alarm an image: the limit is 0.2
        findings(1, (False, 0.5)),
        findings(0, (False, 0.8), (False, 0.1)),
    ]
    sheets, pictures = draw(images, rate=0.6)  # three of five images
    assert [name for name, _ in sheets["hits.png"]] == ["1", "0", "2"]
    assert [name for name, _ in sheets["misses.png"]] == ["3"]
    assert [name for name, _ in sheets["false_alarms.png"]] == ["4", "2", "3"]
    assert dict(sheets["false_alarms.png"]) == {
        "4": 1,
        "2": 2,
        "3": 1,
    }  # none at or below the limit
    assert pictures == ["froc.png", "hits.png", "misses.png", "false_alarms.png"]


def test_a_picture_without_a_view_is_not_drawn(draw):
    sheets, pictures = draw([findings(1, (True, 0.7)), findings(1, (True, 0.8))], count=1)
    assert sheets == {"hits.png": [("1", 1)]}
    assert pictures == ["froc.png", "hits.png"]
    sheets.clear()
    assert draw([findings(0)]) == ({}, [])  # no lesion, no curve
