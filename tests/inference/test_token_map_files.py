from collections import namedtuple

import numpy as np
import pandas as pd
import pytest

from miram.errors import InputError
from miram.inference.token_map_files import TokenMaps, anchor_sizes, detection_items
from miram.inference.token_maps import load_token_map_encoder

from ..detection_case import SIDE, make_lesion_views
from ..exam_case import make_backbone


@pytest.fixture
def maps(tmp_path):
    make_lesion_views(tmp_path, 6)
    encoder = load_token_map_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu")
    return TokenMaps(encoder, tmp_path / "data", tmp_path / "views", tmp_path / "boxes.csv", workers=0)


def test_a_map_is_computed_once_for_an_encoder_and_a_view(maps, tmp_path, monkeypatch):
    first, problems = maps.load("training")
    assert [one.view.source for one in first] == [f"{number:02d}.png" for number in range(8)]
    assert not problems
    computed, original = [], maps.encoder.map
    monkeypatch.setattr(maps.encoder, "map", lambda pixels: computed.append(1) or original(pixels))
    again, _ = maps.load("training")
    assert not computed
    assert [one.map for one in again] == [one.map for one in first]
    (tmp_path / "views/03.png").touch()  # written again: another time
    first[5].map.unlink()
    maps.load("training")
    assert len(computed) == 2
    assert all(np.load(one.map).shape == (25, 20, 16) for one in first)


def test_a_disk_that_is_too_small_is_said_after_the_first_map(maps, monkeypatch):
    space = namedtuple("Space", "free")(100_000)  # a map has 16 KB, and there are eight views
    monkeypatch.setattr("shutil.disk_usage", lambda path: space)
    with pytest.raises(InputError, match=r"7 more maps need about 0\.0 GB"):
        maps.load("training")
    assert len(maps.load("validation")[0]) == 2


@pytest.mark.parametrize("content", [b"", b"no map", None])
def test_a_damaged_map_is_computed_again(maps, content):
    before, _ = maps.load("validation")
    damaged = before[0].map.read_bytes()[:-100] if content is None else content
    before[0].map.write_bytes(damaged)
    maps.load("validation")
    assert np.load(before[0].map).shape == (25, 20, 16)


def test_other_boxes_need_no_other_maps(maps, tmp_path, monkeypatch):
    before, _ = maps.load("validation")
    table = pd.read_csv(tmp_path / "boxes.csv")
    table["width"] -= 2
    table.to_csv(tmp_path / "boxes.csv", index=False)
    monkeypatch.setattr(maps.encoder, "map", None)
    after, _ = maps.load("validation")
    np.testing.assert_array_equal(after[0].boxes[:, 2], before[0].boxes[:, 2] - 2)


def test_a_view_whose_box_cannot_be_used_is_left_out_and_named(maps, tmp_path):
    table = pd.read_csv(tmp_path / "boxes.csv")
    table.loc[table["image"] == "10.png", "x"] = 5000
    table.to_csv(tmp_path / "boxes.csv", index=False)
    found, problems = maps.load("test")
    assert [one.view.source for one in found] == ["11.png"]
    assert "outside the image" in problems["10.png"]


def test_a_split_without_views_is_an_error(maps, tmp_path):
    assert maps.last_split() == "test"
    make_lesion_views(tmp_path, 5)
    assert maps.last_split() == "validation"
    with pytest.raises(InputError, match="the test split"):
        maps.load("test")


def test_samples_have_their_boxes_in_one_shape(maps):
    views, _ = maps.load("training")
    views = [views[0], *views[2:]]
    object.__setattr__(views[0], "boxes", np.zeros((0, 4)))
    object.__setattr__(views[1], "boxes", np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    items = detection_items(views)
    assert [item["boxes"].shape for item in items] == [(2, 4)] * 7
    assert np.isnan(items[0]["boxes"]).all()
    np.testing.assert_array_equal(items[1]["boxes"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert items[2]["patient"] == "p1"


def test_anchors_cover_the_sizes_of_the_training_boxes():
    items = [{"boxes": np.array([[0, 0, side, side], [np.nan] * 4])} for side in np.geomspace(20, 160, 101)]
    sizes = anchor_sizes(items)
    assert len(sizes) == 6
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(20, rel=0.1)
    assert sizes[-1] == pytest.approx(160, rel=0.1)
    assert anchor_sizes(items, [10, 30]) == [10, 30]
    same = anchor_sizes([{"boxes": np.array([[0, 0, SIDE, SIDE]])}])
    assert (same[0], same[-1]) == pytest.approx((SIDE, 2 * SIDE))
    with pytest.raises(InputError, match="no training view has a box"):
        anchor_sizes([{"boxes": np.full((1, 4), np.nan)}])
