import numpy as np
import pytest

from miram.errors import InputError
from miram.handlers.embed_images import draw_neighbours, nearest
from miram.inference.embedding import Embedding, embed, find_sources
from miram.inference.tiles import load_tile_encoder

from ..exam_case import make_backbone, make_views


def test_the_nearest_points_the_same_way_from_the_mean():
    values = np.array([[0.0, 1], [0, -1], [1, 0], [-1, 0]])
    assert [place for place, _ in nearest(values, np.array([0.1, 2]), 2)] == [0, 2]


def test_an_images_neighbours_are_drawn_without_itself(tmp_path):
    encoder = load_tile_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu", pool="mean")
    sources = find_sources(make_views(tmp_path / "views", {"training": 2}))
    embed(sources, Embedding(encoder), tmp_path / "out.npz", {})
    name = sources[0].name
    found = draw_neighbours(name, sources, Embedding(encoder), tmp_path / "out.npz", tmp_path / "n.png", 2)
    assert len(found) == 2
    assert name not in dict(found)
    assert (tmp_path / "n.png").stat().st_size > 5_000
    copy = tmp_path / "other.png"
    copy.write_bytes(sources[0].path.read_bytes())
    nearest_of_copy = draw_neighbours(
        str(copy), sources, Embedding(encoder), tmp_path / "out.npz", tmp_path / "n.png", 1
    )
    assert nearest_of_copy[0][0] == name
    with pytest.raises(InputError, match="no image"):
        draw_neighbours("missing", sources, Embedding(encoder), tmp_path / "out.npz", tmp_path / "n.png")
