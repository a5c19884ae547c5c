import dataclasses
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


@pytest.fixture
def on_disk(tmp_path):
    """A function that makes a view of one file, with these boxes."""
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    return lambda *boxes: dataclasses.replace(view(*boxes), path=path)


def test_records_are_of_one_setting(tmp_path, on_disk):
    records = ViewRecords(tmp_path / "views", {"model": "a", "window": (3, 4)})
    records.begin()
    records.save(on_disk(), {"candidates": [[1, 2, 0.5]]})
    again = ViewRecords(tmp_path / "views", {"model": "a", "window": (3, 4)})
    again.begin()
    assert again.load(on_disk())["candidates"] == [[1, 2, 0.5]]
    assert again.load(dataclasses.replace(on_disk(), source="b.png")) is None
    with pytest.raises(InputError, match=r"other settings found \(model\)"):
        ViewRecords(tmp_path / "views", {"model": "b", "window": (3, 4)}).begin()


def test_a_view_is_searched_again_if_its_boxes_or_its_file_changed_or_it_had_a_problem(tmp_path, on_disk):
    records = ViewRecords(tmp_path / "views", {})
    records.save(on_disk(("1", "2", "3", "4")), {"candidates": []})
    assert records.is_done(on_disk(("1", "2", "3", "4")))
    assert not records.is_done(on_disk(("1", "2", "3", "5")))
    on_disk().path.write_bytes(b"other pixels")
    assert not records.is_done(on_disk(("1", "2", "3", "4")))
    records.save(on_disk(), {"problem": "the box is outside the image"})
    assert records.load(on_disk())["problem"]
    assert not records.is_done(on_disk())
