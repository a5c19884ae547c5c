from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from miram.data.datalist import read_datalist
from miram.errors import InputError
from miram.handlers.view_search import HardNegatives, ViewSearch
from miram.inference.views import View, ViewRecords, Views
from miram.inference.windows import Region
from miram.prepare.prepared import read_png16
from miram.prepare.regions import Box

from ..detection_case import make_lesion_views


@pytest.fixture
def view(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    item = {"patient": "p", "source": "a.png", "spacing": [0.2, 0.2], "zoom": 0.5}
    return View("a.png", path, item, (Box(("40", "40", "10", "10")),), ("1",))


def search(kind, view, tmp_path, regions, **options):
    """Search a view of 100 x 100 pixels whose map has these regions."""
    inferer = SimpleNamespace(regions=lambda probability, most: regions[:most])
    views = Views([view], [], {}, (10, 10))
    found = kind(views=views, records=ViewRecords(tmp_path / "records", {}), inferer=inferer, progress=False, **options)
    pixels = np.arange(100 * 100, dtype=np.float32).reshape(100, 100)
    found.records.save(view, found._record(view, np.zeros((100, 100)), pixels))
    return found, pixels


def test_the_highest_regions_of_a_view_are_kept(view, tmp_path):
    found, _ = search(ViewSearch, view, tmp_path, [Region(0.9, 3, 4), Region(0.5, 50, 60), Region(0.1, 9, 9)], most=2)
    ((kept, record),) = found.found()
    assert kept is view
    assert (record["shape"], record["candidates"]) == ([100, 100], [[3, 4, 0.9], [50, 60, 0.5]])


def test_a_view_whose_box_is_not_in_it_is_left_out_and_said(view, tmp_path, caplog):
    outside = View("a.png", view.path, view.item, (Box(("400", "40", "10", "10")),), ("1",))
    found, _ = search(ViewSearch, outside, tmp_path, [Region(0.9, 3, 4)])
    assert found.found() == []
    assert "outside the image" in found.problems["a.png"]
    assert "a.png is left out" in caplog.text


def test_false_alarms_away_from_a_lesion_become_crops(view, tmp_path):
    folder = make_lesion_views(tmp_path / "prepared", patients=6) / "data"
    regions = [
        Region(0.9, 45, 45),  # the lesion
        Region(0.8, 31, 45),  # a window around it would show the lesion
        Region(0.7, 80, 80),
        Region(0.6, 10, 10),
        Region(0.5, 80, 20),  # one more than is wanted
    ]
    options = {"dataset_dir": folder, "model": "abcdef0123456789", "per_view": 2}
    found, pixels = search(HardNegatives, view, tmp_path, regions, **options)
    found.write()
    mined = [item for item in read_datalist(folder)["training"] if "mined_by" in item]
    assert [item["mined_probability"] for item in mined] == [0.7, 0.6]
    first = mined[0]
    assert first | {"image": ""} == first | {"image": "", "crop": "tissue", "lesion": None, "mined_by": "abcdef012345"}
    assert (first["spacing"], first["zoom"]) == ([0.1, 0.1], 1.0)  # of the view's own pixels
    np.testing.assert_array_equal(read_png16(Path(folder) / first["image"]), pixels[65:97, 65:97])
    found.write()  # replaces what this classifier found before
    assert sum("mined_by" in item for item in read_datalist(folder)["training"]) == 2


def test_a_folder_that_does_not_say_how_large_its_crops_are_is_an_error(view, tmp_path, monkeypatch):
    monkeypatch.setattr("miram.handlers.view_search.read_prepared", lambda folder: {})
    with pytest.raises(InputError, match="does not say how large its crops are"):
        search(HardNegatives, view, tmp_path, [], dataset_dir=tmp_path, model="a")
