import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from miram.errors import InputError
from miram.inference.embedding import Embedding, embed, find_sources
from miram.inference.feature_files import check_output
from miram.inference.tiles import load_tile_encoder

from ..exam_case import make_backbone, make_view, make_views
from ..image_files import write_dicom


@pytest.fixture
def encoder(tmp_path: Path):
    return load_tile_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu", pool="mean")


@pytest.fixture
def folder(tmp_path: Path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number, patient in enumerate(("one", "two", "one")):
        write_dicom(tmp_path / f"in/{number}.dcm", make_view(bool(number), rng), PatientID=patient)
    (tmp_path / "in/damaged.png").write_bytes(b"nothing")
    return tmp_path / "in"


def test_a_folder_becomes_one_file_with_patients_and_provenance(encoder, folder, tmp_path):
    embedding = Embedding(encoder, ("token", "mean", "grid"))
    problems = embed(find_sources(folder), embedding, tmp_path / "out.npz", {"made": "here"}, batch_size=2)
    assert list(problems) == ["damaged.png"]
    with np.load(tmp_path / "out.npz") as content:
        assert content["file"].tolist() == ["0.dcm", "1.dcm", "2.dcm"]
        assert content["patient"].tolist() == ["patient_0001", "patient_0002", "patient_0001"]
        assert content["grid"].shape == (3, 4, 4, 24)
        np.testing.assert_allclose(content["grid"].mean(axis=(1, 2)), content["mean"], atol=1e-5)
        assert json.loads(str(content["provenance"]))["made"] == "here"
    assert not (tmp_path / "out.npz.parts").exists()
    assert b"one" not in (tmp_path / "out.npz").read_bytes()


def test_an_interrupted_run_goes_on(encoder, folder, tmp_path, monkeypatch):
    embedding, sources = Embedding(encoder), find_sources(folder)
    embed(sources, embedding, tmp_path / "whole.npz", {}, batch_size=1)
    described = []
    original = Embedding.describe

    def stop_at_the_third(self, windows):
        described.append(len(windows))
        if len(described) == 3:
            raise KeyboardInterrupt
        return original(self, windows)

    monkeypatch.setattr(Embedding, "describe", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        embed(sources, embedding, tmp_path / "out.npz", {}, batch_size=1)
    assert not (tmp_path / "out.npz").exists()
    embed(sources, embedding, tmp_path / "out.npz", {}, batch_size=1)
    assert len(described) == 4  # two, the one that was interrupted, and that one again
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_file_of_other_settings_is_not_replaced(encoder, folder, tmp_path):
    embed(find_sources(folder), Embedding(encoder), tmp_path / "out.npz", {})
    again = embed(find_sources(folder), Embedding(encoder), tmp_path / "out.npz", {})  # complete
    assert list(again) == ["damaged.png"]
    with pytest.raises(InputError, match="other images or settings"):
        embed(find_sources(folder), Embedding(encoder, window="whole"), tmp_path / "out.npz", {})


def test_parquet_holds_the_same(encoder, tmp_path):
    pytest.importorskip("pyarrow")
    sources = find_sources(make_views(tmp_path / "views", {"training": 2}))
    for suffix in ("npz", "parquet"):
        embed(sources, Embedding(encoder), tmp_path / f"out.{suffix}", {}, batch_size=2)
    table = pd.read_parquet(tmp_path / "out.parquet")
    with np.load(tmp_path / "out.npz") as content:
        assert table["file"].tolist() == content["file"].tolist()
        assert table["patient"].tolist() == ["training0"] * 3 + ["training1"] * 2
        np.testing.assert_array_equal(np.stack(table["mean"]), content["mean"])


def test_parquet_without_pyarrow_is_refused_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        check_output("features.parquet")
    with pytest.raises(InputError, match=r"\.npz or \.parquet"):
        check_output("features.csv")
