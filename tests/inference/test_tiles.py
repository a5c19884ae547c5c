from pathlib import Path

import numpy as np
import pytest
import torch

from miram.data.datalist import load_split
from miram.errors import InputError
from miram.inference.tiles import FeatureCache, Tiles, load_tile_encoder
from miram.transforms.crops import crop_at

from ..exam_case import SHAPE, make_backbone, make_view, make_views


@pytest.fixture
def encoder(tmp_path: Path):
    return load_tile_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu", overlap=0.5, pool="both", batch_size=3)


def test_tiles_cover_the_breast_and_not_the_air():
    view = np.pad(make_view(False, np.random.default_rng(0)), [(0, 0), (0, 64)])
    tiles = Tiles.of(view, (32, 32), 0.5)
    assert tiles.map(np.ones(len(tiles.places))).shape == view.shape
    places = set(map(tuple, tiles.places.tolist()))
    assert (0, 0) in places
    assert max(column for _, column in places) == 2  # of tiles at 0, 16, 32 ... 96; the breast ends at 48
    with pytest.raises(InputError, match="no breast"):
        Tiles.of(np.zeros(SHAPE, np.uint16), (32, 32), 0.5)


def test_a_tiles_features_are_those_of_its_window(encoder):
    view = make_view(True, np.random.default_rng(0))
    tiles = encoder.tiles(view)
    features = encoder.features(view, tiles)
    assert features.shape == (len(tiles.places), 48)
    row, column = tiles.places[4]
    center = tiles.grid.rows.centers[row] + 0.5, tiles.grid.columns.centers[column] + 0.5
    window = torch.from_numpy(crop_at(view, center, 32).astype(np.float32))[None, None]
    tokens = encoder.encoder(torch.nn.functional.avg_pool2d(window, 2) / 65535 * 4 - 2)[0]
    expected = torch.cat([tokens[0], tokens[1:].mean(dim=0)])
    torch.testing.assert_close(torch.from_numpy(features[4]).float(), expected, atol=2e-3, rtol=2e-3)  # float16


def test_features_are_computed_once_for_an_encoder_and_an_image(encoder, tmp_path, monkeypatch):
    folder = make_views(tmp_path / "views", {"training": 2})
    items = load_split(folder, "training")
    first = FeatureCache(folder, encoder).load(items)
    computed = []
    original = encoder.features
    monkeypatch.setattr(encoder, "features", lambda *args: computed.append(1) or original(*args))
    again = FeatureCache(folder, encoder).load(items)
    assert not computed
    assert all(torch.equal(first[path], again[path]) for path in first)
    Path(items[0]["image"]).touch()  # written again: another time
    FeatureCache(folder, encoder).load(items)
    assert len(computed) == 1
    other = load_tile_encoder(tmp_path / "backbone.pt", "cpu", overlap=0.25)
    assert FeatureCache(folder, other).folder != FeatureCache(folder, encoder).folder


def test_a_damaged_file_of_features_is_made_again(encoder, tmp_path):
    folder = make_views(tmp_path / "views", {"training": 1})
    items = load_split(folder, "training")
    cache = FeatureCache(folder, encoder)
    first = cache.load(items)
    next(cache.folder.rglob("*.npz")).write_bytes(b"PK damaged")
    assert all(torch.equal(first[path], values) for path, values in cache.load(items).items())
