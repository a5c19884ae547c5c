"""The command: a plan without a run, and the floor from data to table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from miram.data.datalist import read_datalist, write_datalist
from miram.prepare.prepared import write_png16


@pytest.fixture
def compare(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the script's `main` on a prepared folder of 60 bright and dark crops."""
    random = np.random.default_rng(0)
    items = [{"image": f"{n}.png", "patient": f"p{n}", "grade": "ab"[n % 2]} for n in range(60)]
    for n, item in enumerate(items):
        pixels = random.integers(0, 30000, (16, 16)) + 300 * (n % 2)
        write_png16(tmp_path / "data" / item["image"], pixels.astype(np.uint16))
    splits = {"training": items[:20], "validation": items[20:30], "test": items[30:]}
    write_datalist(tmp_path / "data", {"name": "small", "label_names": {"grade": ["a", "b"]}, **splits})
    spec = importlib.util.spec_from_file_location("compare", repository / "scripts/compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)

    def run(*options: str) -> None:
        folders = ["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "results")]
        monkeypatch.setattr(sys, "argv", ["compare.py", *folders, "--tasks", "grade", *options])
        module.main()

    return run


def test_a_dry_run_runs_nothing(compare, tmp_path: Path, capsys) -> None:
    compare("--seeds", "0,1", "--set", "max_epochs=2", "--dry_run")
    text = capsys.readouterr().out
    assert "1/28 pretrain/miram/seed_0: time unknown" in text  # 2 x (2 + 3 methods x 2 fractions x 2)
    assert not (tmp_path / "results").exists()


def test_the_floor_is_cross_validated_without_a_test_split(compare, tmp_path: Path) -> None:
    write_datalist(tmp_path / "data", read_datalist(tmp_path / "data") | {"test": []})
    options = ("--methods", "floor", "--seeds", "0,1", "--label_fractions", "1.0", "--level", "image", "--folds", "3")
    compare(*options, "--dry_run")
    assert not (tmp_path / "results").exists()
    compare(*options)
    table = pd.read_csv(tmp_path / "results/comparison_3_folds.csv")
    assert table["patients"].eq(30).all()
    assert table["value"].between(0, 1).all()


def test_the_floor_from_data_to_table(compare, tmp_path: Path) -> None:
    compare("--methods", "floor", "--seeds", "0,1", "--label_fractions", "0.5,1.0", "--level", "image")
    table = pd.read_csv(tmp_path / "results/comparison.csv")
    assert list(zip(table["label_fraction"], table["metric"], strict=True)) == [
        (0.5, "AUC"), (0.5, "AP"), (1.0, "AUC"), (1.0, "AP")
    ]  # fmt: skip
    assert table["patients"].eq(30).all()
    assert (table["finetuning_seconds"] > 0).all()
