from pathlib import Path

import numpy as np
import pytest

from miram.errors import InputError
from miram.inference.views import View, ViewRecords
from miram.prepare.regions import Box


def view(*boxes):
    return View("a.png", Path("a.png"), {"patient": "p"}, tuple(Box(box) for box in boxes), ("1",) * len(boxes))


def test_boxes_are_corners_and_end_at_the_edge_of_the_image():
    found = view(("10", "20.5", "30", "40"), ("75", "45", "30", "20")).lesion_boxes((60, 100))
    np.testing.assert_array_equal(found, [[10, 20.5, 40, 60], [75, 45, 100, 60]])
    assert view().lesion_boxes((60, 100)).shape == (0, 4)


def test_a_box_outside_of_the_image_is_an_error():
    with pytest.raises(InputError, match="outside the image"):
        view(("10", "200", "30", "40")).lesion_boxes((60, 100))


def test_records_are_of_one_setting(tmp_path):
    records = ViewRecords(tmp_path, {"model": "a", "window": (3, 4)})
    records.begin()
    records.save("x.png", {"candidates": [[1, 2, 0.5]]})
    again = ViewRecords(tmp_path, {"model": "a", "window": (3, 4)})
    again.begin()
    assert again.load("x.png") == {"candidates": [[1, 2, 0.5]]}
    assert again.load("y.png") is None
    with pytest.raises(InputError, match=r"other settings found \(model\)"):
        ViewRecords(tmp_path, {"model": "b", "window": (3, 4)}).begin()
